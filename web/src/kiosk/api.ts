// The kiosk's HTTP API as the page uses it. The contract is told in locker/kiosk.py.

export type SessionState = 'unlocking' | 'open' | 'jammed' | 'unknown' | 'closed' | 'ended';

export interface SessionView {
  session: string;
  kind: 'collect' | 'deposit' | 'look' | 'recall';
  door: string;
  state: SessionState;
  opened: boolean;
  count: number;
  carry: string;
  shut: '' | 'chime' | 'alarm';
  next: '' | 'collect' | 'deposit';
}

/** Where something is on the cabinet's front, mm; `y_mm` is its lower edge above the floor. */
export interface Place {
  x_mm: number;
  y_mm: number;
  width_mm: number;
  height_mm: number;
}

export interface DoorView {
  door: string;
  size: string;
  low: boolean;
  state: string;
  place: Place;
}

/** The cabinet's front. Zero wide where nobody has said how it is laid out. */
export interface Front {
  width_mm: number;
  height_mm: number;
  screen: Place | null;
}

export type Size = 'S' | 'M' | 'L';

/** What a door is asked for, with all that asking again needs. */
export type Ask =
  | { kind: 'collect'; code: string; extension?: string }
  | { kind: 'voucher'; voucher: string }
  | { kind: 'deposit'; badge: string; pin: string; booking: string; size: Size; low: boolean }
  /** The next door of the visit that `of` began, after one that was opened to `after`. */
  | { kind: 'next'; session: string; of: Ask; after: 'collect' | 'deposit' }
  /** Asked for from afar, by the app of whoever stands here: this page only shows it. */
  | { kind: 'release' }
  /** Staff on a visit. */
  | { kind: 'staff'; visit: string; act: Act };

export interface Refusal {
  reason: string;
  retry_after: number | null;
}

export type Accepted = { door: string; session: string };
export type Verdict = Accepted | Refusal;

export type Role = 'courier' | 'service' | 'audit';

/** One thing that staff have to do at a door; `what` is a word that the language files know. */
export interface Task {
  door: string;
  what: string;
  parcel?: string;
}

/** Staff at this screen, from badge and PIN until they leave or have been away for `expires_s`. */
export interface Visit {
  visit: string;
  role: Role;
  tasks: Task[];
  expires_s: number;
}

/** What staff do on a visit, as the API names it, with the fields that it takes. */
export type Act =
  | { act: 'recall'; parcel?: string }
  | { act: 'open' | 'clean' | 'clear'; door: string }
  | { act: 'out_of_service'; door: string; on: boolean }
  | { act: 'next' }
  | { act: 'found'; door: string; found: 'empty' | 'parcel' | 'other' }
  | { act: 'leave' };

/** No answer, or none that a locker gives: what was asked may or may not have happened. */
export class Gone extends Error {}

/** The server does not know our token: this page was not opened by the locker, or the locker has a new one. */
export class NotPaired extends Error {}

/** The agent answers within half a second; ten times that is an agent that is not there. */
const PATIENCE_MS = 5_000;

const POLL_MS = 1_000;

/** The token comes once, as the URL's fragment, which no server or log ever sees; then it stays in this tab. */
function takeToken(): string {
  const given = location.hash.slice(1);
  if (given) {
    sessionStorage.setItem('token', given);
    history.replaceState(null, '', location.pathname);
  }
  return sessionStorage.getItem('token') ?? '';
}

let token = takeToken();
addEventListener('hashchange', () => (token = takeToken()));

async function call(method: 'GET' | 'POST', path: string, body?: unknown): Promise<{ status: number; data: unknown }> {
  const headers: Record<string, string> = { Authorization: `Bearer ${token}` };
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  const request: RequestInit = { method, headers, signal: AbortSignal.timeout(PATIENCE_MS), cache: 'no-store' };
  if (body !== undefined) request.body = JSON.stringify(body);
  let status: number;
  let data: unknown;
  try {
    const response = await fetch(path, request);
    status = response.status;
    data = status === 204 ? null : await response.json();
  } catch {
    throw new Gone();
  }
  if (status === 401) throw new NotPaired();
  if (status >= 500) throw new Gone();
  return { status, data };
}

/** Ask for a door. `confirm` makes a new attempt after one whose outcome nobody knows. */
export async function ask(what: Ask, confirm: boolean): Promise<Verdict> {
  return (await send(what, confirm)).data as Verdict;
}

function send(what: Ask, confirm: boolean): Promise<{ status: number; data: unknown }> {
  const renewed = confirm ? { confirm } : {};
  switch (what.kind) {
    case 'collect':
      return call('POST', '/api/collect', { code: what.code, extension: what.extension, ...renewed });
    case 'voucher':
      return call('POST', '/api/collect', { voucher: what.voucher, ...renewed });
    case 'deposit': {
      const { kind: _, ...fields } = what;
      return call('POST', '/api/deposit', fields);
    }
    case 'next':
      return call('POST', `/api/sessions/${what.session}/next`);
    case 'staff':
      return staffCall(what.visit, what.act);
    case 'release':
      return Promise.resolve({ status: 404, data: { reason: 'not_here', retry_after: null } });
  }
}

export interface Told {
  doors: DoorView[];
  languages: string[];
  front: Front;
}

const UNTOLD: Told = { doors: [], languages: [], front: { width_mm: 0, height_mm: 0, screen: null } };

/** Every door, and the languages that the screen may speak; none of them: all that it can. */
export async function doors(): Promise<Told> {
  return { ...UNTOLD, ...((await call('GET', '/api/doors')).data as Partial<Told>) };
}

/** The digits by which an app proves that its owner stands here; "" where this locker shows none. */
export async function shown(): Promise<string> {
  const { status, data } = await call('GET', '/api/shown');
  return status === 200 ? (data as { shown: string }).shown : '';
}

/** A session that was begun from afar, by whoever stands here. */
export async function current(): Promise<SessionView | null> {
  const { status, data } = await call('GET', '/api/sessions/current');
  return status === 200 ? (data as SessionView) : null;
}

/** Staff come: their visit, a refusal, or null where this locker knows no visits and a badge only deposits. */
export async function enter(badge: string, pin: string): Promise<Visit | Refusal | null> {
  const { status, data } = await call('POST', '/api/staff/enter', { badge, pin });
  return status === 404 && (data as Refusal).reason === 'not_found' ? null : (data as Visit | Refusal);
}

/** The visit as it stands, or why it is over. */
export async function look(visit: string): Promise<Visit | Refusal> {
  return (await call('GET', `/api/staff/${visit}`)).data as Visit | Refusal;
}

/** Staff do something that opens no door; the visit as it then stands. */
export async function act(visit: string, what: Act): Promise<Visit | Refusal> {
  return (await staffCall(visit, what)).data as Visit | Refusal;
}

function staffCall(visit: string, { act, ...fields }: Act): Promise<{ status: number; data: unknown }> {
  return call('POST', `/api/staff/${visit}/${act}`, fields);
}

/** The page is drawn and its thread runs. Nobody waits for the answer. */
export function alive(frame: number): void {
  call('POST', '/api/alive', { frame }).catch(() => {});
}

/** The languages in which the locker can read its screen out. */
export async function voices(): Promise<string[]> {
  const { status, data } = await call('GET', '/api/speak');
  return status === 200 ? (data as { languages: string[] }).languages : [];
}

/** Have a screen read out: `text` to everybody, or `personal` in its place to whoever wears the headphones. */
export function speak(language: string, text: string, personal: string): void {
  call('POST', '/api/speak', { language, text, personal }).catch(() => {});
}

/** What a person says of a door: through with it; or what is wrong with it, or with the parcel. */
export type Word =
  | ''
  | 'empty'
  | 'does_not_fit'
  | 'not_empty'
  | 'will_not_close'
  | 'wrong_taken'
  | 'wrong_left'
  | 'missing';

/** Tell the locker that the person is through with a session, or what is wrong. */
export async function end(session: string, word: Word): Promise<void> {
  await call('POST', `/api/sessions/${session}/end`, { word });
}

export interface Follower {
  view(view: SessionView): void;
  /** The locker has stopped answering; polling goes on. */
  lost(): void;
  /** The locker answers and does not know the session: it was started anew in between. */
  forgotten(): void;
}

/** Follow a session to its end: by WebSocket, and by polling once that has failed. Returns what stops it. */
export function follow(session: string, follower: Follower): () => void {
  let stopped = false;
  let timer = 0;
  const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
  const url = `${scheme}://${location.host}/api/sessions/${session}/watch`;
  const socket = new WebSocket(url, ['lastmile.kiosk.v1', `token.${token}`]);

  const stop = () => {
    stopped = true;
    clearTimeout(timer);
    socket.close();
  };
  const tell = (view: SessionView) => {
    if (stopped) return;
    if (view.state === 'ended') stop();
    follower.view(view);
  };
  const poll = async () => {
    try {
      const { status, data } = await call('GET', `/api/sessions/${session}`);
      if (stopped) return;
      if (status === 200) tell(data as SessionView);
      else if (status === 404) {
        stop();
        follower.forgotten();
      }
    } catch {
      if (!stopped) follower.lost();
    }
    if (!stopped) timer = setTimeout(() => void poll(), POLL_MS);
  };

  socket.onmessage = (event) => tell(JSON.parse(String(event.data)) as SessionView);
  socket.onclose = () => {
    if (!stopped) void poll();
  };
  return stop;
}

/** A key of the keypad: a digit, or `enter`, `erase`, `cancel`. */
export interface Key {
  key: string;
}

/**
 * A scan: the digits of a code or the id of a booking as `text`, or a token as `ref`, which stands for it wherever the
 * API takes a `badge` or a `voucher`. A `foreign` one means nothing here.
 */
export interface Scan {
  scan: 'code' | 'voucher' | 'badge' | 'booking' | 'foreign';
  ref: string | null;
  text: string | null;
}

/** What the server closes with when another page hears the inputs. */
const NEWER_PAGE = 4409;

/** A locker without keypad and scanners has no such socket: it is asked ever more rarely. */
const LONGEST_PAUSE_MS = 60_000;

/** Hear keypad and scanners, until a newer page hears them. */
export function inputs(on: (input: Key | Scan) => void): void {
  let pause = POLL_MS;
  const connect = () => {
    const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
    const socket = new WebSocket(`${scheme}://${location.host}/api/inputs`, ['lastmile.kiosk.v1', `token.${token}`]);
    socket.onopen = () => (pause = POLL_MS);
    socket.onmessage = (event) => on(JSON.parse(String(event.data)) as Key | Scan);
    socket.onclose = (event) => {
      if (event.code === NEWER_PAGE) return;
      setTimeout(connect, pause);
      pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
    };
  };
  connect();
}
