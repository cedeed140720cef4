/**
 * What time it is at the gateway, whose moments the pages tell: a browser's clock may be wrong.
 *
 * Each answer has a `Date`, which is exact to the second, and came between the question and the answer. So the
 * difference of the clocks lies in a span, which every answer narrows. Where there may be none, none is assumed.
 */

const SECOND_MS = 1000;

/** How much the gateway's clock is ahead of the browser's, in milliseconds: at least, and at most. */
let least = -Infinity;
let most = Infinity;

/** Milliseconds since 1970 UTC, by the gateway's clock. */
export function now() {
  return Date.now() + Math.min(Math.max(0, least), most);
}

/**
 * Takes note of what an answer says of the time.
 *
 * @param {string | null} date the `Date` of an answer
 * @param {number} askedAt of `Date.now()`
 */
export function noteDate(date, askedAt) {
  const told = Date.parse(date ?? "");
  const answeredAt = Date.now();
  if (Number.isNaN(told) || answeredAt < askedAt) {
    return;
  }
  const [low, high] = [told - answeredAt, told + SECOND_MS - askedAt];
  const known = Math.max(low, least) <= Math.min(high, most);
  least = known ? Math.max(low, least) : low;
  most = known ? Math.min(high, most) : high;
}
