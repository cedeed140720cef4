/** How long to wait before asking again where a document stands. */
export const NUDGE_MS: 2000;
/** Each waits until the own document is exact up to a position; now and then it is asked where that stands. */
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
     * When `nudge` has something to do; infinite when it has not.
     * @returns {number}
     */
    deadline(): number;
    /**
     * Whether it is time to ask where the document stands.
     * @param {number} now
     * @returns {boolean}
     */
    nudge(now: number): boolean;
    #private;
}
