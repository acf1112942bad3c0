// Keys and scans: from a keyboard, and from the locker's own keypad and scanners.

import type { Key, Scan } from './api';
import { kiosk } from './kiosk.svelte';
import { typing } from './screen';

/** A key of any keyboard or keypad, by the names that a browser gives them. */
export function pressed(key: string, on: EventTarget | null): void {
  if (key === 'Escape') kiosk.back();
  else if (on instanceof HTMLInputElement) return;
  else if (/^\d$/.test(key)) {
    if (typing(kiosk.screen)) kiosk.type(key);
    else choose(Number(key));
  } else if (key === 'Backspace') kiosk.erase();
  else if (key === 'Enter' && !(on instanceof HTMLButtonElement)) kiosk.enter();
}

/** Press the button that carries this number; style.css numbers the same buttons in the same order. */
function choose(number: number): void {
  document.querySelectorAll<HTMLButtonElement>('button.choice:not(:disabled)')[number - 1]?.click();
}

const NAMES: Record<string, string> = { enter: 'Enter', erase: 'Backspace', cancel: 'Escape' };

/** What the locker's own keypad or scanner has read. */
export function heard(input: Key | Scan): void {
  if ('scan' in input) return kiosk.scanned(input);
  kiosk.touch();
  pressed(NAMES[input.key] ?? input.key, null);
}
