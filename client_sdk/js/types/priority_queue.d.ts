/**
 * Each id once, with a number: a time that it is due, or a place. The lowest comes first; equal ones in the order in
 * which they were put.
 *
 * Every operation takes a time that grows with the logarithm of how many there are.
 */
export class PriorityQueue {
    /** How many there are. */
    get size(): number;
    /**
     * @param {string} id
     * @returns {boolean}
     */
    has(id: string): boolean;
    /**
     * Add an id, or move it.
     * @param {string} id
     * @param {number} priority finite
     */
    put(id: string, priority: number): void;
    /**
     * Take an id away; whether it was there.
     * @param {string} id
     * @returns {boolean}
     */
    remove(id: string): boolean;
    /**
     * The lowest number; infinite when there is nothing.
     * @returns {number}
     */
    first(): number;
    /**
     * Take away and return what comes first, unless its number is above `until`; null when there is nothing.
     * @param {number} [until]
     * @returns {string | null}
     */
    take(until?: number): string | null;
    /** Take everything away. */
    clear(): void;
    /** The ids, in the order in which they came. */
    [Symbol.iterator](): ArrayIterator<string>;
    #private;
}
export type Entry = {
    priority: number;
    place: number;
    id: string;
};
