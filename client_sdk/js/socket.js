/** One WebSocket, from the handshake to its end: what happens on it becomes events. */

/** @typedef {import("./environment.js").Environment} Environment */
/** @typedef {import("./events.js").Event} Event */

/** What fits into a close frame beside the code, in bytes (RFC 6455 §5.5.1). */
const LONGEST_REASON_BYTES = 123;

/**
 * Where to connect and how.
 * @typedef {object} Endpoint
 * @property {string} url
 * @property {string} subprotocol
 * @property {number} closeTimeoutMs how long a goodbye may take
 */

/** One socket. What happens on it is fed to `feed`, until it is closed; `send` and `close` never wait. */
export class Connection {
  #environment;
  #endpoint;
  /** @type {((event: Event) => void) | null} */
  #feed;
  /** @type {import("./environment.js").Socket | null} */
  #socket = null; // there is none before `open`, and none when it is gone
  /** @type {unknown} */
  #timer = null;
  /** @type {() => void} */
  #settle = () => undefined;
  #listeners = {
    open: () => this.#feed?.({ type: "opened", subprotocol: this.#socket?.protocol || null }),
    message: (/** @type {any} */ event) => this.#feed?.({ type: "received", frame: event.data }),
    close: (/** @type {any} */ event) => this.#lose(event.code, event.reason),
    // A close follows in the same breath; but in Node 20 none does where no connection could be made.
    error: () => {
      this.#timer ??= this.#environment.setTimeout(() => this.#lose(null, ""), 0);
    },
  };

  /**
   * @param {Environment} environment
   * @param {Endpoint} endpoint
   * @param {(event: Event) => void} feed
   */
  constructor(environment, endpoint, feed) {
    this.#environment = environment;
    this.#endpoint = endpoint;
    this.#feed = feed;
    /**
     * Done when nothing of the socket is left, or its goodbye has taken long enough. Never rejected.
     * @type {Promise<void>}
     */
    this.gone = new Promise((resolve) => (this.#settle = resolve));
  }

  /** Connect. */
  open() {
    const WebSocket = /** @type {import("./environment.js").SocketClass} */ (this.#environment.WebSocket);
    try {
      this.#socket = new WebSocket(this.#endpoint.url, [this.#endpoint.subprotocol]);
      this.#socket.binaryType = "arraybuffer";
      for (const [name, listener] of Object.entries(this.#listeners)) {
        this.#socket.addEventListener(name, listener);
      }
    } catch (error) {
      this.#lose(null, described(error));
    }
  }

  /**
   * Send a frame.
   * @param {string} frame
   */
  send(frame) {
    try {
      this.#socket?.send(frame);
    } catch (error) {
      this.#lose(null, described(error));
    }
  }

  /**
   * Close the socket, or stop making one. Nothing that it does from now on is an event, and nobody has to wait for it.
   * @param {number} code
   * @param {string} reason
   */
  close(code, reason) {
    this.#feed = null;
    if (this.#socket === null) {
      return;
    }
    this.#timer ??= this.#environment.setTimeout(() => this.#forget(), this.#endpoint.closeTimeoutMs);
    try {
      // Other codes are not for programs to send (WebSockets Standard, close).
      if (code === 1000 || (code >= 3000 && code <= 4999)) {
        this.#socket.close(code, shortened(reason));
      } else {
        this.#socket.close();
      }
    } catch {
      this.#forget();
    }
  }

  /**
   * @param {number | null} code
   * @param {string} reason
   */
  #lose(code, reason) {
    const feed = this.#feed;
    this.#feed = null;
    this.#forget();
    feed?.({ type: "lost", code, reason });
  }

  /** Nothing is expected of the socket any more. */
  #forget() {
    if (this.#timer !== null) {
      this.#environment.clearTimeout(this.#timer);
      this.#timer = null;
    }
    for (const [name, listener] of Object.entries(this.#listeners)) {
      this.#socket?.removeEventListener(name, listener);
    }
    this.#socket = null;
    this.#settle();
  }
}

/** @param {unknown} error */
function described(error) {
  return error instanceof Error ? error.message : String(error);
}

/** @param {string} reason */
function shortened(reason) {
  return new TextEncoder().encode(reason).length <= LONGEST_REASON_BYTES ? reason : "";
}
