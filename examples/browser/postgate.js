// A small Postgate client for browsers: REST calls that renew their token, and a stream that resumes by cursor.

const BACKOFF_MS = { first: 500, longest: 30_000 };
const CALL_MS = 30_000;
const SILENT_HEARTBEATS = 2.5; // a socket that is silent for longer is dead, even if it was never closed

/** An answer other than 2xx, with the fields of its problem (RFC 9457): `code`, `detail`, `fix`, `request_id` … */
export class Problem extends Error {
  constructor(answer, fields) {
    super(fields.detail ?? `The gateway answered ${answer.status}`);
    Object.assign(this, { status: answer.status }, fields);
  }
}

export class Postgate {
  /** Sent with each call. The events that a call causes carry it, so that a page knows its own changes. */
  clientId = crypto.randomUUID();
  #token;
  #renewal;

  /** `getToken` asks your back end for a token: a promise of the secret. */
  constructor(url, getToken) {
    Object.assign(this, { url, getToken });
  }

  /** The current token, or a new one if it is still `old`. Simultaneous calls share one renewal. */
  async token(old) {
    if (this.#token === old) {
      this.#renewal ??= this.getToken().then((token) => (this.#token = token)).finally(() => (this.#renewal = null));
      await this.#renewal;
    }
    return this.#token;
  }

  /** Call `/v1/me…`. When the token has expired, renew it and repeat the call. Throws Problem. */
  async fetch(method, path, { query, json, headers } = {}) {
    const url = `${this.url}/v1/me${path}${query ? `?${new URLSearchParams(query)}` : ''}`;
    const body = json && JSON.stringify(json);
    const own = { 'Client-Id': this.clientId, ...(body && { 'Content-Type': 'application/json' }) };
    const call = (token) => fetch(url, {
      method, body, headers: { ...own, ...headers, Authorization: `Bearer ${token}` }, signal: AbortSignal.timeout(CALL_MS),
    });
    const token = await this.token();
    let answer = await call(token);
    if (answer.status === 401) answer = await call(await this.token(token));
    if (!answer.ok) throw new Problem(answer, await answer.json().catch(() => ({})));
    return answer;
  }

  get = async (path, query) => (await this.fetch('GET', path, { query })).json();
  patch = async (path, json) => (await this.fetch('PATCH', path, { json })).json();
  /** With the same `key`, a repeated POST does its work once. */
  post = async (path, json, key = crypto.randomUUID()) =>
    (await this.fetch('POST', path, { json, headers: { 'Idempotency-Key': key } })).json();
}

/**
 * Follows the account after `cursor`, a `state` of any answer. `on` has the functions `event(event)`;
 * `counts(mailboxes)`, the unread and total messages of mailboxes; `gap()`, called when events are missing and lists
 * must be read again; and `status(name)`: connecting, live, waiting or refused.
 */
export class Stream {
  #attempts = 0;
  #pause = 0;

  constructor(postgate, cursor, on) {
    Object.assign(this, { postgate, cursor, on });
    addEventListener('online', () => this.timer && this.#connect());
    this.#connect();
  }

  async #connect(isTokenOver) {
    clearTimeout(this.timer);
    this.timer = null;
    this.on.status('connecting');
    try {
      this.token = await this.postgate.token(isTokenOver ? this.token : undefined);
    } catch {
      return this.#retry();
    }
    this.socket = new WebSocket(`${this.postgate.url.replace(/^http/, 'ws')}/v1/stream`, 'postgate.v1');
    this.socket.onopen = () => this.#send({ type: 'auth', token: this.token });
    this.socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
    this.socket.onclose = ({ code }) => this.#lost(code);
  }

  #take(frame) {
    clearTimeout(this.watchdog);
    if (frame.type === 'hello') this.silence = frame.heartbeat_seconds * 1000 * SILENT_HEARTBEATS;
    this.watchdog = setTimeout(() => this.#lost(), this.silence);
    const handlers = {
      authenticated: () => this.isSubscribed || this.#subscribe(this.cursor),
      subscribed: () => ((this.#attempts = 0), this.on.status('live')),
      event: () => ((this.cursor = frame.cursor), this.on.event(frame.event)),
      counts: () => this.on.counts(frame.mailboxes),
      ping: () => this.#send({ type: 'pong', id: frame.id }),
      lifecycle: () => frame.event === 'token.expiring' && this.#renewBefore(new Date(frame.expires_at)),
      gap: () => ((this.cursor = frame.to), this.on.gap()),
      state: () => (([this.cursor] = Object.values(frame.states)), this.on.gap()),
      error: () => frame.problem.code === 'state_expired' && (this.#subscribe('now'), this.on.gap()),
      bye: () => (this.#pause = (frame.reconnect_after ?? 0) * 1000),
    };
    handlers[frame.type]?.();
  }

  #subscribe(after) {
    this.isSubscribed = true;
    this.#send({ type: 'subscribe', sub_id: 'mail', accounts: ['me'], after });
  }

  /** Send a new token on the open socket after half of the remaining time. If that fails, the socket ends by 4401. */
  #renewBefore(end) {
    const renew = async () => {
      this.token = await this.postgate.token(this.token);
      this.#send({ type: 'auth', token: this.token });
    };
    this.renewal = setTimeout(() => renew().catch(() => {}), Math.max(500, (end - Date.now()) / 2));
  }

  #send(frame) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(frame));
  }

  #lost(code) {
    clearTimeout(this.watchdog);
    clearTimeout(this.renewal);
    this.isSubscribed = false;
    Object.assign(this.socket, { onopen: null, onmessage: null, onclose: null }).close();
    if (code === 4400 || code === 4403) this.on.status('refused'); // the same attempt would fail again
    else this.#retry(code === 4401);
  }

  #retry(isTokenOver) {
    this.on.status('waiting');
    const backoff = Math.min(BACKOFF_MS.longest, BACKOFF_MS.first * 2 ** this.#attempts++);
    const delay = this.#pause + backoff * (0.5 + Math.random() / 2);
    this.timer = setTimeout(() => this.#connect(isTokenOver), delay);
    this.#pause = 0;
  }
}
