// Every sentence the kiosk can say. A language is one file in lang/, named by its two letters; adding a file adds it.

import type { Role, Word } from './api';
import type { Comfort } from './comfort.svelte';

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
  keys: { erase: string; back: string; home: string; again: string; menu: string };
  /** The digits that an app asks for, to know that its owner stands here. */
  shown: (digits: string) => string;
  menu: { title: string; staff: string; back: string };
  comfort: Record<Comfort, string>;
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
  staff: {
    title: Record<Role, string>;
    nothing: string;
    putIn: string;
    takeBack: string;
    openNext: string;
    leave: string;
    more: string;
    tasks: Record<string, string>;
    doors: Record<string, string>;
    open: string;
    clean: string;
    clear: string;
    off: string;
    on: string;
    found: (door: string) => string;
    empty: string;
    parcel: string;
    other: string;
  };
  checking: string;
  typo: string;
  foreign: string;
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
    voucher_refused: Note;
    other_locker: Note;
    too_early: Note;
    superseded: Note;
    not_here: Note;
    recalled: Note;
    nothing_due: Note;
    parcel_inside: Note;
    look_first: Note;
    door_open: Note;
    item_seen: Note;
    no_such_visit: Note;
    trouble: Note;
  };
  confirm: { yes: string; no: string };
  door: {
    go: string;
    opening: string;
    open: string;
    take: string;
    put: string;
    look: string;
    takeOut: string;
    count: (parcels: number) => string;
    /** The way to what is wrong with a door or a parcel, and what that may be. */
    wrong: string;
    wrongTitle: string;
    words: Record<Exclude<Word, ''>, string>;
    noneOfThese: string;
    /** What is to be done at the open door after that was said. */
    after: Record<Exclude<Word, '' | 'will_not_close'>, string>;
    shut: { chime: string; alarm: string };
    where: { left: string; right: string; above: string; below: string; low: string; middle: string; high: string };
    here: string;
    picture: (door: string) => string;
    taken: Note;
    stored: Note;
    nothingStored: Note;
    claimed: Note;
    broken: Note;
    looked: Note;
    next: { more: Note; larger: Note; another: Note; exchange: Note; go: string; later: string };
    carry: Note;
    carryMore: (shown: number, of: number) => string;
    jammedNext: (door: string) => Note;
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
