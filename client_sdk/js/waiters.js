/** Those who wait for a position of the change log. Times in monotonic milliseconds. */

const FIRST_NUDGE_MS = 250;
/** How long to wait before asking again where a document stands. */
export const NUDGE_MS = 2_000;

/** Each waits until the own document is exact up to a position; now and then it is asked where that stands. */
export class Waiters {
  /** @type {Map<string, {seq: number, nudgeAt: number}>} */
  #waiters = new Map();

  /**
   * Somebody waits.
   * @param {string} id
   * @param {number} seq
   * @param {number} now
   */
  add(id, seq, now) {
    this.#waiters.set(id, { seq, nudgeAt: now + FIRST_NUDGE_MS });
  }

  /**
   * Nobody waits under this id any more.
   * @param {string} id
   */
  remove(id) {
    this.#waiters.delete(id);
  }

  /**
   * A connection begins, which may bring what is waited for.
   * @param {number} now
   */
  begin(now) {
    for (const waiter of this.#waiters.values()) {
      waiter.nudgeAt = now + FIRST_NUDGE_MS;
    }
  }

  /**
   * Take away those whose position is reached, or all.
   * @param {number} [reached]
   * @returns {string[]} their ids
   */
  take(reached = Infinity) {
    const ids = [...this.#waiters].filter(([, { seq }]) => seq <= reached).map(([id]) => id);
    for (const id of ids) {
      this.#waiters.delete(id);
    }
    return ids;
  }

  /**
   * When `nudge` has something to do; infinite when it has not.
   * @returns {number}
   */
  deadline() {
    let earliest = Infinity;
    for (const { nudgeAt } of this.#waiters.values()) {
      earliest = Math.min(earliest, nudgeAt);
    }
    return earliest;
  }

  /**
   * Whether it is time to ask where the document stands.
   * @param {number} now
   * @returns {boolean}
   */
  nudge(now) {
    const due = [...this.#waiters.values()].filter(({ nudgeAt }) => nudgeAt <= now);
    for (const waiter of due) {
      waiter.nudgeAt = now + NUDGE_MS;
    }
    return due.length > 0;
  }
}
