// Every sentence the kiosk can say. A language is one file in lang/, named by its two letters; adding a file adds it.

export interface Note {
  title: string;
  text: string;
}

export interface Words {
  /** The language's own name, as on its switch. */
  name: string;
  locker: string;
  collect: { head: string; hint: string; open: string; typed: (count: number, of: number) => string };
  extension: { head: string; hint: string };
  keys: { erase: string; back: string; home: string; again: string };
  courier: {
    enter: string;
    badge: Note;
    pin: Note;
    booking: Note;
    size: string;
    sizes: { S: string; M: string; L: string };
    low: Note;
    next: string;
    open: string;
    step: (step: number, of: number) => string;
  };
  checking: string;
  typo: string;
  /** By the API's reasons; `trouble` is for a reason this page has no words for. */
  refused: {
    no_such_code: Note;
    expired: Note;
    used: Note;
    wait: Note;
    busy: Note;
    out_of_service: Note;
    confirm_needed: Note;
    not_allowed: Note;
    booking_refused: Note;
    no_room: Note;
    closed: Note;
    trouble: Note;
  };
  confirm: { yes: string; no: string };
  door: {
    go: string;
    opening: string;
    open: string;
    take: string;
    put: string;
    leaveNothing: string;
    closeEmpty: string;
    leftOpen: string;
    taken: Note;
    stored: Note;
    nothingStored: Note;
    jammed: (door: string) => Note;
    jammedDeposit: (door: string) => Note;
    unknown: (door: string) => Note;
    unknownDeposit: (door: string) => Note;
    yes: string;
    no: string;
    another: string;
    nextParcel: string;
    finish: string;
    lost: (door: string) => Note;
  };
  gone: Note;
  goneAsking: Note;
  notPaired: Note;
  leftOpen: (doors: string) => string;
  stillThere: (seconds: number) => string;
  language: string;
}

const files = import.meta.glob<{ default: Words }>('./lang/??.ts', { eager: true });

export const languages: Record<string, Words> = Object.fromEntries(
  Object.entries(files).map(([path, file]) => [path.slice(-5, -3), file.default]),
);

/** The browser's language if we speak it, else English: what the screen goes back to when a person has left. */
export const firstLanguage: string = navigator.language.slice(0, 2) in languages ? navigator.language.slice(0, 2) : 'en';
