/** What a channel needs of the world: sockets, time, chance, digests, and what a page is told of itself. */

/**
 * Every part can be given, for tests; what is not given is taken from where the program runs.
 * @typedef {object} Environment
 * @property {typeof WebSocket | undefined} WebSocket
 * @property {() => number} now milliseconds of a clock that only goes forward, and counts the time of sleep
 * @property {() => number} wallClock milliseconds since 1970
 * @property {(callback: () => void, delayMs: number) => unknown} setTimeout
 * @property {(timer: any) => void} clearTimeout
 * @property {() => number} random a number in [0, 1)
 * @property {SubtleCrypto | null} subtle null where there is none: outside of a secure context
 * @property {(EventTarget & {visibilityState: string}) | null} document tells of `visibilitychange` and `resume`
 * @property {EventTarget | null} window tells of `online`, `offline`, `pagehide` and `pageshow`
 * @property {string | null} origin the page's own, null where there is no page
 * @property {(error: unknown) => void} report for what an application's callback throws
 */

/** Between two looks the wall's clock may gain so much on the other one before it counts as sleep. */
const DRIFT_MS = 2000;

/**
 * The environment of this program, with the parts that are given in place of its own.
 * @param {Partial<Environment>} [given]
 * @returns {Environment}
 */
export function makeEnvironment(given = {}) {
  const world = /** @type {any} */ (globalThis);
  const wallClock = given.wallClock ?? (() => Date.now());
  return {
    WebSocket: world.WebSocket,
    wallClock,
    now: makeClock(() => performance.now(), wallClock),
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
 * A clock that only goes forward and does not stand still while the computer sleeps, as that of `performance` does on
 * some systems: then the wall's clock has gained on it. A wall's clock that is set back changes nothing.
 * @param {() => number} steady milliseconds, may stand still during sleep
 * @param {() => number} wall milliseconds since 1970
 * @returns {() => number}
 */
export function makeClock(steady, wall) {
  let sleptMs = 0;
  let ahead = wall() - steady();
  return () => {
    const now = steady();
    const gained = wall() - now - ahead;
    if (gained > DRIFT_MS) {
      sleptMs += gained;
    }
    ahead += gained;
    return now + sleptMs;
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
  /** @type {[EventTarget | null, string, () => void][]} */
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
