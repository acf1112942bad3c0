// What is read out of the screen. Typed digits stand in no heading and no paragraph, and so are never said.

const LONGEST = 300; // characters, as the locker takes them

/** The screen as a sentence for everybody, and one for headphones, in which the door and the parcels are named. */
export function spoken(door: string): { text: string; personal: string } {
  const parts = [...document.querySelectorAll<HTMLElement>('main h1, main p, main figcaption')];
  const choices = [...document.querySelectorAll<HTMLElement>('button.choice:not(:disabled)')];
  const numbered = choices.map((choice, at) => `${at + 1}: ${words(choice)}.`);
  const all = parts.map((part) => `${words(part)}.`);
  const open = parts.filter((part) => !('personal' in part.dataset)).map((part) => `${words(part)}.`);
  const personal = sentence([...(door ? [`${door}.`] : []), ...all, ...numbered]);
  return { text: sentence([...open, ...numbered].map((part) => without(part, door))), personal };
}

const words = (element: HTMLElement) => (element.textContent ?? '').replace(/\s+/g, ' ').trim().replace(/[.:]$/, '');

const sentence = (parts: string[]) => parts.join(' ').slice(0, LONGEST);

/** The same without the door's name, where it is a word of its own. */
function without(text: string, door: string): string {
  const bare = (word: string) => word.replace(/[.,:;?!]/g, '');
  return door ? text.split(' ').filter((word) => bare(word) !== door).join(' ') : text;
}
