/**
 * The environment of this program, with the parts that are given in place of its own.
 * @param {Partial<Environment>} [given]
 * @returns {Environment}
 */
export function makeEnvironment(given?: Partial<Environment>): Environment;
/**
 * A clock that only goes forward and does not stand still while the computer sleeps, as that of `performance` does on
 * some systems: then the wall's clock has gained on it. A wall's clock that is set back changes nothing.
 * @param {() => number} steady milliseconds, may stand still during sleep
 * @param {() => number} wall milliseconds since 1970
 * @returns {() => number}
 */
export function makeClock(steady: () => number, wall: () => number): () => number;
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
export function watchPage({ document, window }: Environment, listener: PageListener): () => void;
/**
 * What a page is told that matters to a connection.
 */
export type PageListener = {
    /**
     * the page is looked at again, or goes on: timers may have slept
     */
    woken: () => void;
    online: () => void;
    offline: () => void;
    /**
     * the page is left, perhaps for the back/forward cache
     */
    putAway: () => void;
    /**
     * it came out of there
     */
    takenUp: () => void;
};
/**
 * Every part can be given, for tests; what is not given is taken from where the program runs.
 */
export type Environment = {
    WebSocket: typeof WebSocket | undefined;
    /**
     * milliseconds of a clock that only goes forward, and counts the time of sleep
     */
    now: () => number;
    /**
     * milliseconds since 1970
     */
    wallClock: () => number;
    setTimeout: (callback: () => void, delayMs: number) => unknown;
    clearTimeout: (timer: any) => void;
    /**
     * a number in [0, 1)
     */
    random: () => number;
    /**
     * null where there is none: outside of a secure context
     */
    subtle: SubtleCrypto | null;
    /**
     * tells of `visibilitychange` and `resume`
     */
    document: (EventTarget & {
        visibilityState: string;
    }) | null;
    /**
     * tells of `online`, `offline`, `pagehide` and `pageshow`
     */
    window: EventTarget | null;
    /**
     * the page's own, null where there is no page
     */
    origin: string | null;
    /**
     * for what an application's callback throws
     */
    report: (error: unknown) => void;
};
