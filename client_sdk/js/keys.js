/** What names a request to spend, and the bounds of what may be asked. */

/** The most units in one request. */
export const MOST = 2 ** 31;
/** Characters of a key or of a lease's name, at the most. */
export const LONGEST_KEY = 128;
const LONGEST_NAME = 256;
const LONGEST_TTL_S = 3600;

const STAMP = /^[0-9a-f]{12}/;
const CONTROL = /[\u0000-\u001f\u007f-\u009f]|\p{Surrogate}/u;

/**
 * A key that nobody else makes. It begins with the time, in milliseconds since 1970 and 12 hexadecimal digits: keys
 * grow with time, and the gateway's index of them then grows at its end.
 * @param {() => number} [wallClock] milliseconds since 1970
 * @param {{getRandomValues(bytes: any): any}} [crypto]
 * @returns {string}
 */
export function newKey(wallClock = Date.now, crypto = globalThis.crypto) {
  const bytes = [...crypto.getRandomValues(new Uint8Array(8))];
  const digits = bytes.map((byte) => byte.toString(16).padStart(2, "0"));
  return Math.trunc(wallClock()).toString(16).padStart(12, "0") + digits.join("");
}

/**
 * The time that a key begins with.
 * @param {string} key
 * @returns {number | null} milliseconds since 1970; null for a key that begins with none
 */
export function madeAt(key) {
  const stamp = STAMP.exec(key);
  return stamp === null ? null : Number.parseInt(stamp[0], 16);
}

/**
 * The name of a quota, an organization, a request or a lease.
 * @param {string} what
 * @param {string} name
 * @param {number} [longest]
 * @returns {string}
 * @throws {TypeError} it can not be one
 */
export function checkedName(what, name, longest = LONGEST_NAME) {
  if (typeof name !== "string" || name.length === 0 || [...name].length > longest) {
    throw new TypeError(`${what} is a text of 1 to ${longest} characters`);
  }
  if (CONTROL.test(name)) {
    throw new TypeError(`${what} holds no control characters and no halves of characters`);
  }
  return name;
}

/**
 * The key of a request, or a new one.
 * @param {string | null | undefined} key
 * @returns {string}
 * @throws {TypeError} it can not be one
 */
export function checkedKey(key) {
  return key === null || key === undefined ? newKey() : checkedName("a key", key, LONGEST_KEY);
}

/**
 * Units to take.
 * @param {number} amount
 * @returns {number}
 * @throws {TypeError} it is no integer from 1 to 2^31
 */
export function checkedAmount(amount) {
  if (!Number.isInteger(amount) || amount < 1 || amount > MOST) {
    throw new TypeError("an amount is a whole number from 1 to 2147483648");
  }
  return amount;
}

/**
 * A length of time in milliseconds, positive and finite.
 * @param {string} what
 * @param {number} durationMs
 * @returns {number}
 * @throws {TypeError} it is none
 */
export function checkedMs(what, durationMs) {
  if (!Number.isFinite(durationMs) || durationMs <= 0) {
    throw new TypeError(`${what} is a positive number of milliseconds`);
  }
  return durationMs;
}

/**
 * How long a lease is held without being extended, in seconds.
 * @param {number} ttlS
 * @returns {number}
 * @throws {TypeError} it is not from 1 to 3600
 */
export function checkedTtl(ttlS) {
  if (typeof ttlS !== "number" || !(ttlS >= 1 && ttlS <= LONGEST_TTL_S)) {
    throw new TypeError("a lease is held for 1 to 3600 seconds");
  }
  return ttlS;
}
