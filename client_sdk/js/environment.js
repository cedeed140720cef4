/** What a channel needs of the world: sockets, time, chance, digests, and what a page is told of itself. */

/** @typedef {(event: any) => void} Listener */
/**
 * What tells of events; an `EventTarget` is one.
 * @typedef {{
 *   addEventListener(name: string, listener: Listener): void,
 *   removeEventListener(name: string, listener: Listener): void,
 * }} Telling
 */
/**
 * What the SDK needs of a WebSocket.
 * @typedef {Telling & {
 *   readonly protocol: string,
 *   binaryType?: string,
 *   send(frame: string): void,
 *   close(code?: number, reason?: string): void,
 * }} Socket
 */
/** @typedef {new (url: string, protocols: string[]) => Socket} SocketClass A class of WebSockets. */
/** @typedef {{digest(algorithm: string, data: Uint8Array): Promise<ArrayBuffer>}} Digests `crypto.subtle` is one. */

/**
 * Every part can be given, for tests; what is not given is taken from where the program runs.
 * @typedef {object} Environment
 * @property {SocketClass | undefined} WebSocket
 * @property {() => number} now milliseconds of a clock that nobody sets; it may stand still while the computer sleeps
 * @property {() => number} wallClock milliseconds since 1970, of a clock that may be set
 * @property {(callback: () => void, delayMs: number) => unknown} setTimeout
 * @property {(timer: any) => void} clearTimeout
 * @property {() => number} random a number in [0, 1)
 * @property {Digests | null} subtle null where there is none: outside of a secure context
 * @property {(Telling & {visibilityState: string}) | null} document tells of `visibilitychange` and `resume`
 * @property {Telling | null} window tells of `online`, `offline`, `pagehide` and `pageshow`
 * @property {string | null} origin the page's own, null where there is no page
 * @property {(error: unknown) => void} report for what an application's callback throws
 */

/**
 * The environment of this program, with the parts that are given in place of its own.
 * @param {Partial<Environment>} [given]
 * @returns {Environment}
 */
export function makeEnvironment(given = {}) {
  const world = /** @type {any} */ (globalThis);
  return {
    WebSocket: world.WebSocket,
    now: () => performance.now(),
    wallClock: () => Date.now(),
    setTimeout: (callback, delayMs) => setTimeout(callback, delayMs),
    clearTimeout: (timer) => clearTimeout(timer),
    random: () => Math.random(),
    subtle: world.crypto?.subtle ?? null,
    document: world.document ?? null,
    window: typeof world.addEventListener === "function" ? world : null,
    origin: world.location?.origin ?? null,
    report,
    ...given,
  };
}

/**
 * What a page is told that matters to a connection.
 * @typedef {object} PageListener
 * @property {() => void} woken the page is looked at again, or goes on: timers may have slept
 * @property {() => void} online
 * @property {() => void} offline
 * @property {() => void} putAway the page is left, perhaps for the back/forward cache
 * @property {() => void} takenUp it came out of there
 */

/**
 * Tell a listener what happens to the page; nothing where there is none.
 * @param {Environment} environment
 * @param {PageListener} listener
 * @returns {() => void} what ends it
 */
export function watchPage({ document, window }, listener) {
  const seen = () => {
    if (document?.visibilityState === "visible") {
      listener.woken();
    }
  };
  /** @type {[Telling | null, string, () => void][]} */
  const wanted = [
    [document, "visibilitychange", seen],
    [document, "resume", () => listener.woken()],
    [window, "online", () => listener.online()],
    [window, "offline", () => listener.offline()],
    [window, "pagehide", () => listener.putAway()],
    [window, "pageshow", () => listener.takenUp()],
  ];
  for (const [target, name, callback] of wanted) {
    target?.addEventListener(name, callback);
  }
  return () => {
    for (const [target, name, callback] of wanted) {
      target?.removeEventListener(name, callback);
    }
  };
}

/** @param {unknown} error */
function report(error) {
  const { reportError } = /** @type {any} */ (globalThis);
  if (typeof reportError === "function") {
    reportError(error);
  } else {
    console.error(error);
  }
}
