/** How long to wait before asking again where a document stands, at first. */
export const NUDGE_MS: 2000;
/**
 * All wait until the own document is exact up to a position; now and then, and ever more seldom, it is asked where that
 * stands: once for all of them.
 */
export class Waiters {
    /**
     * Somebody waits.
     * @param {string} id
     * @param {number} seq
     * @param {number} now
     */
    add(id: string, seq: number, now: number): void;
    /**
     * Nobody waits under this id any more.
     * @param {string} id
     */
    remove(id: string): void;
    /**
     * A connection begins, which may bring what is waited for.
     * @param {number} now
     */
    begin(now: number): void;
    /**
     * Take away those whose position is reached, or all.
     * @param {number} [reached]
     * @returns {string[]} their ids
     */
    take(reached?: number): string[];
    /**
     * When it is to be asked where the document stands; infinite when nobody waits.
     * @returns {number}
     */
    deadline(): number;
    /**
     * It was asked, or somebody else has asked that already.
     * @param {number} now
     */
    nudged(now: number): void;
    #private;
}
