// The kiosk's HTTP API as the page uses it. The contract is told in locker/kiosk.py.

export type SessionState = 'unlocking' | 'open' | 'jammed' | 'unknown' | 'closed' | 'ended';

export interface SessionView {
  session: string;
  kind: 'collect' | 'deposit';
  door: string;
  state: SessionState;
  opened: boolean;
  /** The door has stood open for longer than a person needs, or so long that staff are told. */
  shut: '' | 'chime' | 'alarm';
}

/** Millimetres on the cabinet's front: from its left edge, and from the floor to the lower edge. */
export interface Place {
  column: number;
  row: number;
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

/** The whole front, for a picture of it; `screen` is where the person stands. */
export interface Front {
  width_mm: number;
  height_mm: number;
  screen: Place | null;
}

export type Size = 'S' | 'M' | 'L';

export type Ask =
  | { kind: 'collect'; code: string; extension?: string }
  | { kind: 'deposit'; badge: string; pin: string; booking: string; size: Size; low: boolean };

export interface Refusal {
  reason: string;
  retry_after: number | null;
}

export type Verdict = { door: string; session: string } | Refusal;

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
    data = await response.json();
  } catch {
    throw new Gone();
  }
  if (status === 401) throw new NotPaired();
  if (status >= 500) throw new Gone();
  return { status, data };
}

/** Ask for a door. `confirm` makes a new attempt after one whose outcome nobody knows. */
export async function ask(what: Ask, confirm: boolean): Promise<Verdict> {
  const { kind, ...fields } = what;
  const body = kind === 'collect' && confirm ? { ...fields, confirm } : fields;
  return (await call('POST', `/api/${kind}`, body)).data as Verdict;
}

/** Every door, and the languages that the screen may speak; none of them: all that it can. */
export async function doors(): Promise<{ doors: DoorView[]; languages: string[] }> {
  const { data } = await call('GET', '/api/doors');
  return { doors: [], languages: [], ...(data as { doors?: DoorView[]; languages?: string[] }) };
}

/** Tell the locker that the person is through with a session; a courier may add that no parcel stays inside. */
export type Word = '' | 'empty';

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

/** A key of the keypad: a digit or one of the three words. */
export type Key = { key: string };

/**
 * A scan: the digits of a code or the id of a booking as `text`, or a token as `ref`, which stands for it wherever the
 * API takes a `badge` or a `voucher`. A `foreign` one means nothing here.
 */
export type Scan = {
  scan: 'code' | 'voucher' | 'badge' | 'booking' | 'foreign';
  ref: string | null;
  text: string | null;
};

/** What the server closes with when another page hears the inputs. */
const NEWER_PAGE = 4409;

/** Hear keypad and scanners until the returned function is called, or a newer page hears them. */
export function inputs(on: (input: Key | Scan) => void): () => void {
  let stopped = false;
  let timer = 0;
  let socket: WebSocket | undefined;

  const connect = () => {
    const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
    socket = new WebSocket(`${scheme}://${location.host}/api/inputs`, ['lastmile.kiosk.v1', `token.${token}`]);
    socket.onmessage = (event) => {
      if (!stopped) on(JSON.parse(String(event.data)) as Key | Scan);
    };
    socket.onclose = (event) => {
      if (!stopped && event.code !== NEWER_PAGE) timer = setTimeout(connect, POLL_MS);
    };
  };

  connect();
  return () => {
    stopped = true;
    clearTimeout(timer);
    socket?.close();
  };
}
