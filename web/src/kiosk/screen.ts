// The screens there are, and for how long each is left alone.

import type { Ask, SessionView, Size, Visit, Word } from './api';

export const CODE_DIGITS = 9; // eight and the check digit
export const EXTENSION_DIGITS = 4;
export const PIN_DIGITS = { least: 4, most: 8 };

export type CourierStep = 'badge' | 'pin' | 'booking' | 'size';
export const COURIER_STEPS: CourierStep[] = ['badge', 'pin', 'booking', 'size'];

/** How it ended at a door. */
export type Ending =
  | 'taken'
  | 'stored'
  | 'nothingStored'
  | 'claimed'
  | 'broken'
  | 'looked'
  /** The customer saw a door open that the locker cannot see. */
  | 'take';

export interface StaffScreen {
  at: 'staff';
  visit: Visit;
  badge: string;
  pin: string;
  /** The door that something is to be done with, "" for the list of them. */
  door: string;
  /** Whether `door` was just looked into, and what lay there is asked. */
  asks: boolean;
  page: number;
}

export type Screen =
  | { at: 'code'; digits: string; hint: '' | 'typo' | 'foreign' }
  | { at: 'menu' }
  | { at: 'extension'; code: string; digits: string }
  | { at: 'courier'; step: CourierStep; badge: string; pin: string; booking: string; size: Size | ''; low: boolean }
  | StaffScreen
  | { at: 'checking' }
  | { at: 'refused'; reason: string; asked: Ask; until: number }
  /** `telling`: what is wrong is being chosen. */
  | { at: 'door'; view: SessionView; asked: Ask; lost: boolean; word: Word; telling: boolean }
  | { at: 'done'; kind: Ending; view: SessionView; asked: Ask; word: Word; telling: boolean }
  | { at: 'gone'; asking: boolean }
  | { at: 'notPaired' };

export type DoorScreen = Extract<Screen, { at: 'door' }>;
export type DoneScreen = Extract<Screen, { at: 'done' }>;
export type CourierScreen = Extract<Screen, { at: 'courier' }>;

export const START: Screen = { at: 'code', digits: '', hint: '' };

/** EN 301 549 and WCAG 2.2.1: a time limit is told 20 s before, and put off by a touch. */
export const WARN_MS = 20_000;

/** What began the visit that `asked` belongs to. */
export function origin(asked: Ask): Ask {
  return asked.kind === 'next' ? origin(asked.of) : asked;
}

/** Milliseconds without a touch after which a screen is left, so that the next person begins at the beginning. */
export function patience(screen: Screen): number {
  switch (screen.at) {
    case 'code':
      return screen.digits || screen.hint ? 45_000 : Infinity;
    case 'done':
      if (screen.view.next) return 110_000; // the locker keeps the next door for 120 s
      if (screen.view.carry || screen.telling || origin(screen.asked).kind === 'deposit') return 60_000;
      return screen.kind === 'taken' || screen.kind === 'take' ? 20_000 : 12_000;
    case 'door':
      // An open door is shown until it is closed; only the questions after it give up.
      return screen.view.state === 'jammed' || screen.view.state === 'unknown' ? 90_000 : Infinity;
    case 'refused':
      return screen.until ? Infinity : 45_000;
    case 'extension':
    case 'courier':
    case 'menu':
      return 60_000;
    case 'staff':
      return 240_000;
    default:
      return Infinity;
  }
}

/** Whether leaving this screen costs its person something, so that it is told before. */
export function warned(screen: Screen): boolean {
  return screen.at !== 'done' || origin(screen.asked).kind === 'deposit' || screen.view.next !== '' || screen.view.carry !== '';
}

/** A scanned code carries its extension behind it. */
export function codeAsk(digits: string): Ask {
  const code = digits.slice(0, CODE_DIGITS);
  return digits.length > CODE_DIGITS ? { kind: 'collect', code, extension: digits.slice(CODE_DIGITS) } : { kind: 'collect', code };
}

export function ending(view: SessionView, word: Word): Ending {
  if (word === 'will_not_close') return 'broken';
  if (view.kind === 'look' || view.kind === 'recall') return 'looked';
  if (view.kind === 'collect') return word.startsWith('wrong') ? 'claimed' : 'taken';
  return word === '' ? 'stored' : 'nothingStored';
}

/** Another parcel of a visit lies behind this door: what the visit was begun with does not open it. */
export function itsOwnCode({ asked, view }: DoorScreen): boolean {
  return asked.kind === 'next' && asked.after === 'collect' && view.kind === 'collect';
}

/** Whether digits are typed here, and do not choose. */
export function typing(screen: Screen): boolean {
  return ['code', 'extension'].includes(screen.at) || (screen.at === 'courier' && ['pin', 'booking'].includes(screen.step));
}

/** The screen with one digit more, where it takes one. */
export function typed(screen: Screen, digit: string): Screen {
  if (screen.at === 'code' && screen.digits.length < CODE_DIGITS)
    return { at: 'code', digits: screen.digits + digit, hint: '' };
  if (screen.at === 'extension' && screen.digits.length < EXTENSION_DIGITS)
    return { ...screen, digits: screen.digits + digit };
  if (screen.at === 'courier' && screen.step === 'pin' && screen.pin.length < PIN_DIGITS.most)
    return { ...screen, pin: screen.pin + digit };
  if (screen.at === 'courier' && screen.step === 'booking') return { ...screen, booking: screen.booking + digit };
  return screen;
}

/** The screen without the last digit. */
export function erased(screen: Screen): Screen {
  if (screen.at === 'code') return { at: 'code', digits: screen.digits.slice(0, -1), hint: '' };
  if (screen.at === 'extension') return { ...screen, digits: screen.digits.slice(0, -1) };
  if (screen.at === 'courier' && screen.step === 'pin') return { ...screen, pin: screen.pin.slice(0, -1) };
  if (screen.at === 'courier' && screen.step === 'booking') return { ...screen, booking: screen.booking.slice(0, -1) };
  return screen;
}

/** Whether all that the screen asks for is there. */
export function complete(screen: Screen): boolean {
  if (screen.at === 'code') return screen.digits.length === CODE_DIGITS;
  if (screen.at === 'extension') return screen.digits.length === EXTENSION_DIGITS;
  if (screen.at !== 'courier') return false;
  if (screen.step === 'pin') return screen.pin.length >= PIN_DIGITS.least;
  return screen[screen.step].trim() !== '';
}
