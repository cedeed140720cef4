/**
 * A key that nobody else makes. It begins with the time, in milliseconds since 1970 and 12 hexadecimal digits: keys
 * grow with time, and the gateway's index of them then grows at its end.
 * @param {() => number} [wallClock] milliseconds since 1970
 * @param {{getRandomValues(bytes: any): any}} [crypto]
 * @returns {string}
 */
export function newKey(wallClock?: () => number, crypto?: {
    getRandomValues(bytes: any): any;
}): string;
/**
 * The time that a key begins with.
 * @param {string} key
 * @returns {number | null} milliseconds since 1970; null for a key that begins with none
 */
export function madeAt(key: string): number | null;
/**
 * The name of a quota, an organization, a request or a lease.
 * @param {string} what
 * @param {string} name
 * @param {number} [longest]
 * @returns {string}
 * @throws {TypeError} it can not be one
 */
export function checkedName(what: string, name: string, longest?: number): string;
/**
 * The key of a request, or a new one.
 * @param {string | null | undefined} key
 * @returns {string}
 * @throws {TypeError} it can not be one
 */
export function checkedKey(key: string | null | undefined): string;
/**
 * Units to take.
 * @param {number} amount
 * @returns {number}
 * @throws {TypeError} it is no integer from 1 to 2^31
 */
export function checkedAmount(amount: number): number;
/**
 * A length of time in milliseconds, positive and finite.
 * @param {string} what
 * @param {number} durationMs
 * @returns {number}
 * @throws {TypeError} it is none
 */
export function checkedMs(what: string, durationMs: number): number;
/**
 * How long a lease is held without being extended, in seconds.
 * @param {number} ttlS
 * @returns {number}
 * @throws {TypeError} it is not from 1 to 3600
 */
export function checkedTtl(ttlS: number): number;
/** What names a request to spend, and the bounds of what may be asked. */
/** The most units in one request. */
export const MOST: number;
/** Characters of a key or of a lease's name, at the most. */
export const LONGEST_KEY: 128;
