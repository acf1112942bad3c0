// What the kiosk shows and when it moves on. Screens only draw `screen` and call these methods.

import * as api from './api';
import type { Act, Ask, Scan, SessionView, Size, Verdict, Word } from './api';
import { comforts, SLOWER } from './comfort.svelte';
import { locker } from './locker.svelte';
import {
  codeAsk,
  complete,
  COURIER_STEPS,
  ending,
  erased,
  origin,
  patience,
  START,
  typed,
  WARN_MS,
  warned,
  type CourierScreen,
  type DoneScreen,
  type DoorScreen,
  type Screen,
  type StaffScreen,
} from './screen';
import { play } from './sound';
import { firstLanguage, languages, type Words } from './words';

const TICK_MS = 250;
const HEALTH_MS = 5_000; // how soon a customer who only looks learns that the locker does not answer
const ALIVE_MS = 5_000; // the agent takes a page that has drawn nothing for 30 s to be hung
const CURRENT_MS = 1_000; // who opens a door with an app in front of the screen looks at the screen next
const SOUND_MS = { chime: 6_000, alarm: 2_500 };
const RESET_MS = 60_000; // language and comfort go back to the start for the next person

class Kiosk {
  screen = $state.raw<Screen>(START);
  language = $state(firstLanguage);
  /** Spoken here, by the operator's wish all that this page knows or some of it. */
  languages = $state.raw<string[]>(Object.keys(languages));
  now = $state(Date.now());

  readonly words: Words = $derived(languages[this.language]!);
  /** Whole seconds until this screen is left, 0 while there is no hurry. */
  readonly leavingIn: number = $derived.by(() => {
    const left = this.touched + this.patience() - this.now;
    return warned(this.screen) && left <= WARN_MS ? Math.max(1, Math.ceil(left / 1000)) : 0;
  });

  private mainLanguage = firstLanguage;
  private touched = $state(Date.now());
  private stopFollowing = () => {};
  private asking = 0;
  private checkedAt = 0;
  private lookedAt = 0;
  private soundedAt = 0;
  private readonly known = new Set<string>();
  /** The visit that a door was opened on, to go back to. */
  private visit: StaffScreen | null = null;

  start(): void {
    setInterval(() => this.tick(), TICK_MS);
    let frame = 0;
    setInterval(() => requestAnimationFrame(() => api.alive(++frame)), ALIVE_MS);
    addEventListener('pointerdown', () => this.touch(), true);
    addEventListener('keydown', () => this.touch(), true);
    addEventListener('hashchange', () => this.home());
    void this.check();
  }

  home(): void {
    this.leave();
    if (this.visit) void api.act(this.visit.visit.visit, { act: 'leave' }).catch(() => {});
    this.visit = null;
    this.show(START);
  }

  /** Through with this: back to the visit that it belongs to, or to the beginning. */
  finish(): void {
    const { visit } = this;
    if (!visit) return this.home();
    this.leave();
    this.show(visit);
  }

  menu(): void {
    this.show({ at: 'menu' });
  }

  type(digit: string): void {
    this.screen = typed(this.screen, digit);
  }

  erase(): void {
    this.screen = erased(this.screen);
  }

  /** The key that goes on: open, next. Does nothing until what the screen asks for is complete. */
  enter(): void {
    if (!this.ready()) return;
    const screen = this.screen;
    if (screen.at === 'code') void this.ask({ kind: 'collect', code: screen.digits });
    else if (screen.at === 'extension') void this.ask({ kind: 'collect', code: screen.code, extension: screen.digits });
    else if (screen.at === 'courier') this.nextStep(screen);
  }

  ready(): boolean {
    return complete(this.screen);
  }

  courier(badge = ''): void {
    this.show({ at: 'courier', step: badge ? 'pin' : 'badge', badge, pin: '', booking: '', size: '', low: false });
  }

  /** What a courier typed, scanned or chose on the step that is shown. */
  fill(part: Partial<{ badge: string; booking: string; size: Size; low: boolean }>): void {
    if (this.screen.at === 'courier') this.screen = { ...this.screen, ...part };
  }

  /** Something was held before the scanner. What it means depends on the screen; elsewhere it means nothing. */
  scanned({ scan, ref, text }: Scan): void {
    this.touch();
    const screen = this.screen;
    const idle = screen.at === 'code' || screen.at === 'menu';
    if (scan === 'badge' && ref && (idle || (screen.at === 'courier' && screen.step === 'badge'))) this.courier(ref);
    else if (scan === 'booking' && text && screen.at === 'courier' && screen.step === 'booking')
      this.nextStep({ ...screen, booking: text });
    else if (!idle) return;
    else if (scan === 'voucher' && ref) void this.ask({ kind: 'voucher', voucher: ref });
    else if (scan === 'code' && text) void this.ask(codeAsk(text));
    else this.show({ at: 'code', digits: '', hint: 'foreign' });
  }

  /** One step back; a door that is opening or open, and a question on its way, are not left by a key. */
  back(): void {
    const screen = this.screen;
    if (screen.at === 'checking' || screen.at === 'gone' || screen.at === 'notPaired') return;
    if (screen.at === 'code' && !screen.digits) return this.menu();
    if ((screen.at === 'door' || screen.at === 'done') && screen.telling) return this.tell(false);
    if (screen.at === 'door' && !['jammed', 'unknown'].includes(screen.view.state)) return;
    if (screen.at === 'staff' && screen.door && !screen.asks) return this.show({ ...screen, door: '' });
    const before = screen.at === 'courier' ? COURIER_STEPS[COURIER_STEPS.indexOf(screen.step) - 1] : undefined;
    if (screen.at !== 'courier' || !before) return screen.at === 'staff' ? this.home() : this.finish();
    if (before === 'pin' && this.visit) return this.finish();
    this.show({ ...screen, step: before, ...(before === 'pin' && { pin: '' }) });
  }

  /** The courier's badge and PIN stay for one more parcel, until the screen is left. */
  nextParcel(): void {
    const asked = this.screen.at === 'done' ? origin(this.screen.asked) : this.visit;
    if (!asked || !('badge' in asked)) return;
    const { badge, pin } = asked;
    this.show({ at: 'courier', step: 'booking', badge, pin, booking: '', size: '', low: false });
  }

  /** Open the next door that belongs to this visit. */
  nextDoor(): void {
    if (this.screen.at !== 'done' || !this.screen.view.next) return;
    const { view, asked } = this.screen;
    const after = view.kind === 'deposit' ? 'deposit' : 'collect';
    void this.ask({ kind: 'next', session: view.session, of: asked, after });
  }

  /** Ask again for what this screen was refused or has failed at; `confirm` after an outcome nobody knows. */
  again(confirm = false): void {
    if (this.screen.at !== 'refused' && this.screen.at !== 'door') return;
    const { asked } = this.screen;
    this.leave();
    void this.ask(this.screen.at === 'door' ? origin(asked) : asked, confirm);
  }

  /** Back to where the refused thing can be mended: the step that is most likely wrong, with the rest kept. */
  mend(): void {
    const asked = this.screen.at === 'refused' ? origin(this.screen.asked) : undefined;
    if (this.screen.at !== 'refused' || asked?.kind !== 'deposit') return this.home();
    const { reason } = this.screen;
    const { kind: _, ...filled } = asked;
    if (reason === 'not_allowed') return this.courier();
    this.show({ at: 'courier', ...filled, step: reason === 'no_room' ? 'size' : 'booking' });
  }

  /** The customer looked: the door that the locker cannot see is open. */
  sawItOpen(): void {
    if (this.screen.at !== 'door') return;
    const { view, asked } = this.screen;
    this.leave();
    this.show({ at: 'done', kind: 'take', view, asked, word: '', telling: false });
  }

  /** Ask what is wrong, or stop asking. */
  tell(telling: boolean): void {
    if (this.screen.at === 'door' || this.screen.at === 'done') this.show({ ...this.screen, telling });
  }

  /** The person at the door has said what is wrong. */
  say(word: Word): void {
    const screen = this.screen;
    if (screen.at !== 'door' && screen.at !== 'done') return;
    const { session } = screen.view;
    if (screen.at === 'door') this.show({ ...screen, word, telling: false });
    else this.show({ ...screen, kind: 'claimed', word, telling: false });
    void api.end(session, word).catch(() => {});
  }

  /** Staff do something on their visit: a door opens, or the list of what is to be done is a new one. */
  async act(act: Act): Promise<void> {
    const { visit } = this;
    if (!visit) return;
    if (['recall', 'open', 'clean', 'next'].includes(act.act))
      return this.ask({ kind: 'staff', visit: visit.visit.visit, act });
    await this.turn(() => api.act(visit.visit.visit, act), (answer) => {
      if ('reason' in answer) return this.refuse(answer, { kind: 'staff', visit: visit.visit.visit, act });
      this.staff({ ...visit, visit: answer, door: '', asks: false });
    });
  }

  /** Show the visit as it now stands. */
  staff(visit: StaffScreen): void {
    this.visit = visit;
    this.show(visit);
  }

  private nextStep(screen: CourierScreen): void {
    const next = COURIER_STEPS[COURIER_STEPS.indexOf(screen.step) + 1];
    if (screen.step === 'pin') return void this.comeIn(screen);
    if (next) return this.show({ ...screen, step: next });
    const { badge, pin, booking, size, low } = screen;
    void this.ask({ kind: 'deposit', badge: badge.trim(), pin, booking: booking.trim(), size: size as Size, low });
  }

  /** Badge and PIN are asked for once. Whoever has nothing to do but put parcels in goes straight on to them. */
  private async comeIn(screen: CourierScreen): Promise<void> {
    const { badge, pin } = screen;
    await this.turn(() => api.enter(badge.trim(), pin), (visit) => {
      if (visit && 'reason' in visit) {
        const asked: Ask = { kind: 'deposit', badge, pin, booking: '', size: 'S', low: false };
        return this.refuse(visit, asked);
      }
      const plain = !visit || (visit.role === 'courier' && visit.tasks.length === 0);
      if (plain) return this.show({ ...screen, step: 'booking' });
      this.staff({ at: 'staff', visit, badge: badge.trim(), pin, door: '', asks: false, page: 0 });
    });
  }

  private async ask(asked: Ask, confirm = false): Promise<void> {
    await this.turn<Verdict>(() => api.ask(asked, confirm), (verdict) => {
      if ('session' in verdict) this.followAsked(verdict, asked);
      else this.refuse(verdict, asked);
    });
  }

  /** One question to the locker, and what to do with its answer, unless the screen has gone on meanwhile. */
  private async turn<T>(question: () => Promise<T>, answered: (answer: T) => void): Promise<void> {
    const turn = ++this.asking;
    this.show({ at: 'checking' });
    try {
      const answer = await question();
      if (turn === this.asking) answered(answer);
    } catch (error) {
      if (turn === this.asking) this.show(error instanceof api.NotPaired ? { at: 'notPaired' } : { at: 'gone', asking: true });
    }
  }

  private refuse({ reason, retry_after }: api.Refusal, asked: Ask): void {
    if (reason === 'no_such_visit') this.visit = null;
    const until = retry_after === null ? 0 : Date.now() + retry_after * 1000;
    if (asked.kind === 'collect' && reason === 'typo') this.show({ at: 'code', digits: asked.code, hint: 'typo' });
    else if (asked.kind === 'collect' && reason === 'extension_needed')
      this.show({ at: 'extension', code: asked.code, digits: '' });
    else this.show({ at: 'refused', reason, asked, until });
  }

  private followAsked({ session, door }: api.Accepted, asked: Ask): void {
    const from = origin(asked);
    const kind = from.kind === 'deposit' ? 'deposit' : from.kind === 'staff' ? 'look' : 'collect';
    this.follow({ session, kind, door, state: 'unlocking', opened: false, count: 1, carry: '', shut: '', next: '' }, asked);
  }

  private follow(view: SessionView, asked: Ask): void {
    this.known.add(view.session);
    this.show({ at: 'door', view, asked, lost: false, word: '', telling: false });
    this.stopFollowing = api.follow(view.session, {
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
    const telling = screen.telling && view.state === 'open';
    if (view.state !== 'ended') this.show({ ...screen, view, telling, lost: false });
    // Ended, and never seen open: jammed and unknown keep their question; of an unlocking that just ends nobody knows.
    else if (screen.view.state === 'unlocking') this.show({ ...screen, view: { ...view, state: 'unknown' } });
  }

  private finished(screen: DoorScreen, view: SessionView): void {
    this.stopFollowing();
    const done: DoneScreen = { ...screen, at: 'done', kind: ending(view, screen.word), view, telling: false };
    const { visit } = this;
    if (!visit || screen.asked.kind !== 'staff' || done.kind === 'broken') return this.show(done);
    void this.resume(visit, screen.asked.act.act === 'next' ? view.door : '');
  }

  /** A door of a visit is shut: what is left to do, and of a door of an audit what lay behind it. */
  private async resume(visit: StaffScreen, door: string): Promise<void> {
    await this.turn(() => api.look(visit.visit.visit), (answer) => {
      if ('reason' in answer) this.home();
      else this.staff({ ...visit, visit: answer, door, asks: door !== '' });
    });
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

  touch(): void {
    this.touched = this.now = Date.now();
  }

  private patience(): number {
    return patience(this.screen) * (comforts.on('slow') ? SLOWER : 1);
  }

  private tick(): void {
    this.now = Date.now();
    const screen = this.screen;
    if (this.now - this.touched >= this.patience()) this.home();
    else if (screen.at === 'refused' && screen.until && this.now >= screen.until) this.again();
    const idle = screen.at === 'code' && !screen.digits;
    if (idle && this.now - this.touched >= RESET_MS * (comforts.on('slow') ? SLOWER : 1)) {
      this.language = this.mainLanguage;
      comforts.reset();
    }
    if (idle && this.now - this.lookedAt >= CURRENT_MS) void this.look();
    const watching = idle || screen.at === 'gone' || screen.at === 'notPaired';
    if (watching && this.now - this.checkedAt >= HEALTH_MS) void this.check();
    this.remind(screen);
  }

  /** A door that is left open is heard. */
  private remind(screen: Screen): void {
    const sound = screen.at === 'door' ? screen.view.shut : '';
    if (!sound || this.now - this.soundedAt < SOUND_MS[sound]) return;
    this.soundedAt = this.now;
    play(sound);
  }

  /** Somebody before this screen may have opened a door with an app. */
  private async look(): Promise<void> {
    this.lookedAt = Date.now();
    const view = await api.current().catch(() => null);
    if (!view || this.known.has(view.session) || view.state === 'ended') return;
    if (this.screen.at === 'code' && !this.screen.digits) this.follow(view, { kind: 'release' });
  }

  private speak(offered: string[]): void {
    const known = offered.filter((language) => language in languages);
    this.languages = known.length ? known : Object.keys(languages);
    this.mainLanguage = known[0] ?? firstLanguage;
    if (!this.languages.includes(this.language)) this.language = this.mainLanguage;
  }

  private async check(): Promise<void> {
    this.checkedAt = Date.now();
    const standing = await locker.ask();
    if (standing === 'well') {
      this.speak(locker.languages);
      if (this.screen.at === 'notPaired' || (this.screen.at === 'gone' && !this.justAsked())) this.home();
    } else if (this.screen.at === 'code' && !this.screen.digits) {
      if (standing === 'notPaired') this.show({ at: 'notPaired' });
      if (standing === 'gone') this.show({ at: 'gone', asking: false });
    }
  }

  /** After an unanswered code the advice stays long enough to be read, even if the locker is back at once. */
  private justAsked(): boolean {
    return this.screen.at === 'gone' && this.screen.asking && Date.now() - this.touched < 10_000;
  }
}

export const kiosk = new Kiosk();
