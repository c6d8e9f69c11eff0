// The WebSocket: connects, notices silence, comes back by itself.

const STALE_AFTER_MS = 3_000;
const DEAD_AFTER_MS = 15_000;  // an open socket that says nothing is not worth keeping
const HANDSHAKE_LIMIT_MS = 8_000;
const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 10_000;
const NOT_SIGNED_IN = 4401;
const HIDDEN_LIMIT_MS = 30_000;  // then a hidden tab stops costing the server anything

/** Calls `onMessage(message)` for each message and `onLink(link)` when the link's state changes.
 *
 * link.state is one of connecting, live, stale, reconnecting, hidden; link.sinceMs is when it began,
 * link.lastMs when the last message came (0: never), link.retryAtMs when the next attempt starts.
 */
export class Feed {
  constructor(url, { onMessage, onLink }) {
    Object.assign(this, { url, onMessage, onLink, attempt: 0 });
    this.link = { state: "connecting", sinceMs: Date.now(), lastMs: 0, retryAtMs: 0 };
    setInterval(() => this.watch(), 500);
    document.addEventListener("visibilitychange", () => this.visibilityChanged());
    addEventListener("online", () => this.open());
    this.open();
  }

  open() {
    clearTimeout(this.timer);
    this.drop();
    this.openedMs = Date.now();
    const socket = new WebSocket(this.url);
    socket.onmessage = (event) => this.received(event.data);
    // The page knows where to sign in again.
    socket.onclose = (event) => (event.code === NOT_SIGNED_IN ? location.reload() : this.lost());
    this.socket = socket;
  }

  drop() {
    if (!this.socket) return;
    this.socket.onmessage = this.socket.onclose = null;
    this.socket.close();
    this.socket = null;
  }

  received(data) {
    this.attempt = 0;
    this.link.lastMs = Date.now();
    const message = JSON.parse(data);
    this.become(message.data.stale ? "stale" : "live");
    this.onMessage(message);
  }

  lost() {
    this.drop();
    const ceiling = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** this.attempt++);
    // Jitter: a restarted worker is not met by every open dashboard at the same instant.
    const delay = ceiling * (0.5 + Math.random() / 2);
    this.link.retryAtMs = Date.now() + delay;
    this.timer = setTimeout(() => this.open(), delay);
    this.become(this.link.lastMs ? "reconnecting" : "connecting");
  }

  watch() {
    if (!this.socket) return;
    const silence = Date.now() - Math.max(this.link.lastMs, this.openedMs);
    const limit = this.socket.readyState === WebSocket.OPEN ? DEAD_AFTER_MS : HANDSHAKE_LIMIT_MS;
    // Silence may be the conductor's: ask again without alarm, and let a refusal raise it.
    if (silence > limit && this.link.state === "stale" && this.socket.readyState === WebSocket.OPEN) this.open();
    else if (silence > limit) this.lost();
    else if (this.link.state === "live" && silence > STALE_AFTER_MS) this.become("stale");
  }

  visibilityChanged() {
    clearTimeout(this.hiddenTimer);
    if (document.hidden) this.hiddenTimer = setTimeout(() => this.rest(), HIDDEN_LIMIT_MS);
    else if (this.link.state === "hidden") this.open();
  }

  rest() {
    clearTimeout(this.timer);
    this.drop();
    this.become("hidden");
  }

  become(state) {
    if (this.link.state === state) return;
    Object.assign(this.link, { state, sinceMs: Date.now() });
    this.onLink(this.link);
  }
}
