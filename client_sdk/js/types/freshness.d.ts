/** How true the documents are that a channel holds. */
/** @typedef {"live" | "stale" | "offline"} FreshnessState */
/**
 * @typedef {object} Freshness How true the documents are that a channel holds.
 * @property {FreshnessState} state `live`: connected, and every watched document is exact. `stale`: connected, but the
 *   gateway can not reach its database, a document is still on its way or not what its revision says, or nothing was
 *   heard for so long that nobody knows. `offline`: not connected
 * @property {number | null} ageS how many seconds ago everything held was last known to be true; 0 when live, null when
 *   it never was
 * @property {string} reason a word for what is amiss: `connecting`, `store`, `silence`, `document`, `unverified`,
 *   `network` (the system says that there is none), or the code of the last end
 */
/** Remembers when everything held was last known to be true. Times in monotonic milliseconds. */
export class FreshnessMeter {
    /** A session begins; the gateway says at once if its database is away. */
    connected(): void;
    /**
     * Something came from the gateway: what was true until now was true.
     * @param {number} now
     */
    heard(now: number): void;
    /**
     * So much more time may have passed than the clock says.
     * @param {number} gapMs
     */
    slept(gapMs: number): void;
    /**
     * The gateway says that something it sent may be this old.
     * @param {number} ageS
     * @param {number} now
     */
    stale(ageS: number, now: number): void;
    /**
     * The gateway can not reach its database, or can again.
     * @param {boolean} isStale
     */
    store(isStale: boolean): void;
    /**
     * How true everything is.
     * @param {string | null} offline why there is no session
     * @param {string | null} amiss why not every document is known to be a true copy
     * @param {number} now
     * @returns {Freshness}
     */
    read(offline: string | null, amiss: string | null, now: number): Freshness;
    /**
     * Whether this is another state than the last time.
     * @param {Freshness} freshness
     * @param {number} now
     * @returns {boolean}
     */
    changed({ state }: Freshness, now: number): boolean;
    #private;
}
export type FreshnessState = "live" | "stale" | "offline";
/**
 * How true the documents are that a channel holds.
 */
export type Freshness = {
    /**
     * `live`: connected, and every watched document is exact. `stale`: connected, but the
     * gateway can not reach its database, a document is still on its way or not what its revision says, or nothing was
     * heard for so long that nobody knows. `offline`: not connected
     */
    state: FreshnessState;
    /**
     * how many seconds ago everything held was last known to be true; 0 when live, null when
     * it never was
     */
    ageS: number | null;
    /**
     * a word for what is amiss: `connecting`, `store`, `silence`, `document`, `unverified`,
     * `network` (the system says that there is none), or the code of the last end
     */
    reason: string;
};
