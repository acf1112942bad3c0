// What the kiosk shows and when it moves on. Screens only draw `screen` and call these methods.

import * as api from './api';
import type { Ask, DoorView, SessionView, Size, Verdict, Word } from './api';
import { chime } from './chime';
import { firstLanguage, languages, type Words } from './words';

export const CODE_DIGITS = 9; // eight and the check digit
export const EXTENSION_DIGITS = 4;
export const PIN_DIGITS = { least: 4, most: 6 };

export type CourierStep = 'badge' | 'pin' | 'booking' | 'size';
export const COURIER_STEPS: CourierStep[] = ['badge', 'pin', 'booking', 'size'];

export type Screen =
  | { at: 'code'; digits: string; typo: boolean }
  | { at: 'extension'; code: string; digits: string }
  | { at: 'courier'; step: CourierStep; badge: string; pin: string; booking: string; size: Size | ''; low: boolean }
  | { at: 'checking' }
  | { at: 'refused'; reason: string; asked: Ask; until: number }
  | { at: 'door'; view: SessionView; asked: Ask; lost: boolean; word: Word }
  | { at: 'done'; kind: 'taken' | 'stored' | 'nothingStored' | 'take'; door: string; asked: Ask }
  | { at: 'gone'; asking: boolean }
  | { at: 'notPaired' };

const START: Screen = { at: 'code', digits: '', typo: false };

const TICK_MS = 250;
const CHIME_MS = 10_000;
const HEALTH_MS = 5_000; // how soon a customer who only looks learns that the locker does not answer
const GONE_AFTER = 2; // missed answers in a row: one may be a restart in passing
const WARN_MS = 10_000; // EN 301 549: a time limit is told, and can be put off by a touch

/** Milliseconds without a touch after which a screen is left, so that the next person begins at the beginning. */
function patience(screen: Screen): number {
  switch (screen.at) {
    case 'code':
      return screen.digits ? 45_000 : Infinity;
    case 'done':
      return screen.kind === 'take' ? 20_000 : screen.asked.kind === 'deposit' ? 60_000 : 8_000;
    case 'door':
      // An open door is shown until it is closed; only the questions after it give up.
      return screen.view.state === 'jammed' || screen.view.state === 'unknown' ? 90_000 : Infinity;
    case 'refused':
      return screen.until ? Infinity : 45_000;
    case 'extension':
    case 'courier':
      return 60_000;
    default:
      return Infinity;
  }
}

class Kiosk {
  screen = $state.raw<Screen>(START);
  doors = $state.raw<DoorView[]>([]);
  language = $state(firstLanguage);
  /** Spoken here, by the operator's wish all that this page knows or some of it. */
  languages = $state.raw<string[]>(Object.keys(languages));
  now = $state(Date.now());

  readonly words: Words = $derived(languages[this.language]!);
  readonly openDoors: string = $derived(
    this.doors
      .filter((door) => ['open', 'ajar', 'forced'].includes(door.state))
      .map((door) => door.door)
      .join(', '),
  );
  /** Whole seconds until this screen is left, 0 while there is no hurry. */
  readonly leavingIn: number = $derived.by(() => {
    const left = this.touched + patience(this.screen) - this.now;
    const warned = this.screen.at !== 'done' || this.screen.asked.kind === 'deposit';
    return warned && left <= WARN_MS ? Math.max(1, Math.ceil(left / 1000)) : 0;
  });

  private mainLanguage = firstLanguage;
  private touched = $state(Date.now());
  private stopFollowing = () => {};
  private asking = 0;
  private missed = 0;
  private checkedAt = 0;
  private chiming = 0;

  start(): void {
    setInterval(() => this.tick(), TICK_MS);
    addEventListener('pointerdown', () => this.touch(), true);
    addEventListener('keydown', () => this.touch(), true);
    addEventListener('hashchange', () => this.home());
    void this.check();
  }

  home(): void {
    this.leave();
    this.show(START);
  }

  type(digit: string): void {
    const screen = this.screen;
    if (screen.at === 'code' && screen.digits.length < CODE_DIGITS)
      this.screen = { at: 'code', digits: screen.digits + digit, typo: false };
    else if (screen.at === 'extension' && screen.digits.length < EXTENSION_DIGITS)
      this.screen = { ...screen, digits: screen.digits + digit };
    else if (screen.at === 'courier' && screen.step === 'pin' && screen.pin.length < PIN_DIGITS.most)
      this.screen = { ...screen, pin: screen.pin + digit };
  }

  erase(): void {
    const screen = this.screen;
    if (screen.at === 'code') this.screen = { at: 'code', digits: screen.digits.slice(0, -1), typo: false };
    else if (screen.at === 'extension') this.screen = { ...screen, digits: screen.digits.slice(0, -1) };
    else if (screen.at === 'courier' && screen.step === 'pin')
      this.screen = { ...screen, pin: screen.pin.slice(0, -1) };
  }

  /** The key that goes on: open, next. Does nothing until what the screen asks for is complete. */
  enter(): void {
    if (!this.ready()) return;
    const screen = this.screen;
    if (screen.at === 'code') void this.ask({ kind: 'collect', code: screen.digits });
    else if (screen.at === 'extension')
      void this.ask({ kind: 'collect', code: screen.code, extension: screen.digits });
    else if (screen.at === 'courier') this.nextStep(screen);
  }

  ready(): boolean {
    const screen = this.screen;
    if (screen.at === 'code') return screen.digits.length === CODE_DIGITS;
    if (screen.at === 'extension') return screen.digits.length === EXTENSION_DIGITS;
    if (screen.at !== 'courier') return false;
    if (screen.step === 'pin') return screen.pin.length >= PIN_DIGITS.least;
    return screen[screen.step].trim() !== '';
  }

  courier(): void {
    this.show({ at: 'courier', step: 'badge', badge: '', pin: '', booking: '', size: '', low: false });
  }

  /** What a courier typed, scanned or chose on the step that is shown. */
  fill(part: Partial<{ badge: string; booking: string; size: Size; low: boolean }>): void {
    if (this.screen.at === 'courier') this.screen = { ...this.screen, ...part };
  }

  /** One step back; a door that is opening or open, and a question on its way, are not left by a key. */
  back(): void {
    const screen = this.screen;
    if (screen.at === 'checking' || screen.at === 'gone' || screen.at === 'notPaired') return;
    if (screen.at === 'door' && !['jammed', 'unknown'].includes(screen.view.state)) return;
    const before = screen.at === 'courier' ? COURIER_STEPS[COURIER_STEPS.indexOf(screen.step) - 1] : undefined;
    if (screen.at === 'courier' && before) this.show({ ...screen, step: before, ...(before === 'pin' && { pin: '' }) });
    else this.home();
  }

  /** The courier's badge and PIN stay for one more parcel, until the screen is left. */
  nextParcel(): void {
    if (this.screen.at !== 'done' || this.screen.asked.kind !== 'deposit') return;
    const { badge, pin } = this.screen.asked;
    this.show({ at: 'courier', step: 'booking', badge, pin, booking: '', size: '', low: false });
  }

  /** Ask again for what this screen was refused or has failed at; `confirm` after an outcome nobody knows. */
  again(confirm = false): void {
    if (this.screen.at === 'refused' || this.screen.at === 'door') {
      const { asked } = this.screen;
      this.leave();
      void this.ask(asked, confirm);
    }
  }

  /** Back to where the refused thing can be mended: the step that is most likely wrong, with the rest kept. */
  mend(): void {
    if (this.screen.at !== 'refused' || this.screen.asked.kind === 'collect') return this.home();
    const { reason, asked } = this.screen;
    const { kind: _, ...filled } = asked;
    if (reason === 'not_allowed') return this.courier();
    this.show({ at: 'courier', ...filled, step: reason === 'no_room' ? 'size' : 'booking' });
  }

  /** The customer looked: the door that the locker cannot see is open. */
  sawItOpen(): void {
    if (this.screen.at !== 'door') return;
    const { view, asked } = this.screen;
    this.leave();
    this.show({ at: 'done', kind: 'take', door: view.door, asked });
  }

  leaveNothing(): void {
    if (this.screen.at !== 'door') return;
    this.screen = { ...this.screen, word: 'empty' };
    void api.end(this.screen.view.session, 'empty').catch(() => {});
  }

  private nextStep(screen: Screen & { at: 'courier' }): void {
    const next = COURIER_STEPS[COURIER_STEPS.indexOf(screen.step) + 1];
    if (next) return this.show({ ...screen, step: next });
    const { badge, pin, booking, size, low } = screen;
    void this.ask({ kind: 'deposit', badge: badge.trim(), pin, booking: booking.trim(), size: size as Size, low });
  }

  private async ask(asked: Ask, confirm = false): Promise<void> {
    const turn = ++this.asking;
    this.show({ at: 'checking' });
    let verdict: Verdict;
    try {
      verdict = await api.ask(asked, confirm);
    } catch (error) {
      if (turn === this.asking) this.show(error instanceof api.NotPaired ? { at: 'notPaired' } : { at: 'gone', asking: true });
      return;
    }
    if (turn !== this.asking) return;
    if ('session' in verdict) this.follow(verdict, asked);
    else this.refuse(verdict, asked);
  }

  private refuse({ reason, retry_after }: api.Refusal, asked: Ask): void {
    const until = retry_after === null ? 0 : Date.now() + retry_after * 1000;
    if (asked.kind === 'collect' && reason === 'typo') this.show({ at: 'code', digits: asked.code, typo: true });
    else if (asked.kind === 'collect' && reason === 'extension_needed')
      this.show({ at: 'extension', code: asked.code, digits: '' });
    else this.show({ at: 'refused', reason, asked, until });
  }

  private follow({ session, door }: { session: string; door: string }, asked: Ask): void {
    const view: SessionView = { session, kind: asked.kind, door, state: 'unlocking', opened: false, shut: '' };
    this.show({ at: 'door', view, asked, lost: false, word: '' });
    this.stopFollowing = api.follow(session, {
      view: (now) => this.seen(now),
      lost: () => {
        if (this.screen.at === 'door') this.screen = { ...this.screen, lost: true };
      },
      forgotten: () => {
        if (this.screen.at === 'door') this.seen({ ...this.screen.view, state: 'unknown' });
      },
    });
  }

  private seen(view: SessionView): void {
    const screen = this.screen;
    if (screen.at !== 'door' || screen.view.session !== view.session) return;
    if (view.state === 'closed' || (view.state === 'ended' && view.opened)) return this.finished(screen, view);
    if (view.shut && view.state === 'open') this.chime();
    if (view.state !== 'ended') this.show({ ...screen, view, lost: false });
    // Ended, and never seen open: jammed and unknown keep their question; of an unlocking that just ends nobody knows.
    else if (screen.view.state === 'unlocking') this.show({ ...screen, view: { ...view, state: 'unknown' } });
  }

  /** While a door is left open: a sound now and every ten seconds, which a person who has turned away hears. */
  private chime(): void {
    clearTimeout(this.chiming);
    const screen = this.screen;
    if (screen.at !== 'door' || screen.view.state !== 'open') return;
    chime();
    this.chiming = setTimeout(() => this.chime(), CHIME_MS);
  }

  private finished(screen: Screen & { at: 'door' }, view: SessionView): void {
    this.stopFollowing();
    const kind = view.kind === 'collect' ? 'taken' : screen.word === 'empty' ? 'nothingStored' : 'stored';
    this.show({ at: 'done', kind, door: view.door, asked: screen.asked });
  }

  /** Stop following a door; one that is stuck or unseen is given up, so that the next person is not `busy`. */
  private leave(): void {
    this.asking++;
    this.stopFollowing();
    const screen = this.screen;
    if (screen.at === 'door' && ['jammed', 'unknown'].includes(screen.view.state))
      void api.end(screen.view.session, '').catch(() => {});
  }

  private show(screen: Screen): void {
    this.screen = screen;
    this.touch();
  }

  private touch(): void {
    this.touched = this.now = Date.now();
  }

  private tick(): void {
    this.now = Date.now();
    const screen = this.screen;
    if (this.now - this.touched >= patience(screen)) this.home();
    else if (screen.at === 'refused' && screen.until && this.now >= screen.until) this.again();
    if (screen === START && this.now - this.touched >= 60_000) this.language = this.mainLanguage;
    const watching = (screen.at === 'code' && !screen.digits) || screen.at === 'gone' || screen.at === 'notPaired';
    if (watching && this.now - this.checkedAt >= HEALTH_MS) void this.check();
  }

  private speak(offered: string[]): void {
    const known = offered.filter((language) => language in languages);
    this.languages = known.length ? known : Object.keys(languages);
    this.mainLanguage = known[0] ?? firstLanguage;
    if (!this.languages.includes(this.language)) this.language = this.mainLanguage;
  }

  private async check(): Promise<void> {
    this.checkedAt = Date.now();
    try {
      const told = await api.doors();
      this.doors = told.doors;
      this.speak(told.languages);
      this.missed = 0;
      if (this.screen.at === 'notPaired' || (this.screen.at === 'gone' && !this.justAsked())) this.home();
    } catch (error) {
      this.missed++;
      if (this.screen.at !== 'code' || this.screen.digits) return;
      if (error instanceof api.NotPaired) this.show({ at: 'notPaired' });
      else if (this.missed >= GONE_AFTER) this.show({ at: 'gone', asking: false });
    }
  }

  /** After an unanswered code the advice stays long enough to be read, even if the locker is back at once. */
  private justAsked(): boolean {
    return this.screen.at === 'gone' && this.screen.asking && Date.now() - this.touched < 10_000;
  }
}

export const kiosk = new Kiosk();
