/** Those who wait for a position of the change log. Times in monotonic milliseconds. */

const FIRST_NUDGE_MS = 250;
/** How long to wait before asking again where a document stands, at first. */
export const NUDGE_MS = 2_000;
const LONGEST_NUDGE_MS = 30_000;

/**
 * All wait until the own document is exact up to a position; now and then, and ever more seldom, it is asked where that
 * stands: once for all of them.
 */
export class Waiters {
  /** @type {Map<string, number>} */
  #waiting = new Map();
  #intervalMs = NUDGE_MS;
  #nudgeAt = Infinity;
  #nudgedAt = -Infinity;

  /**
   * Somebody waits.
   * @param {string} id
   * @param {number} seq
   * @param {number} now
   */
  add(id, seq, now) {
    const soon = Math.max(now + FIRST_NUDGE_MS, this.#nudgedAt + NUDGE_MS);
    this.#nudgeAt = this.#waiting.size > 0 ? Math.min(this.#nudgeAt, soon) : soon;
    this.#intervalMs = NUDGE_MS;
    this.#waiting.set(id, seq);
  }

  /**
   * Nobody waits under this id any more.
   * @param {string} id
   */
  remove(id) {
    this.#waiting.delete(id);
  }

  /**
   * A connection begins, which may bring what is waited for.
   * @param {number} now
   */
  begin(now) {
    this.#nudgeAt = now + FIRST_NUDGE_MS;
    this.#intervalMs = NUDGE_MS;
  }

  /**
   * Take away those whose position is reached, or all.
   * @param {number} [reached]
   * @returns {string[]} their ids
   */
  take(reached = Infinity) {
    const ids = [...this.#waiting].filter(([, seq]) => seq <= reached).map(([id]) => id);
    for (const id of ids) {
      this.#waiting.delete(id);
    }
    return ids;
  }

  /**
   * When it is to be asked where the document stands; infinite when nobody waits.
   * @returns {number}
   */
  deadline() {
    return this.#waiting.size > 0 ? this.#nudgeAt : Infinity;
  }

  /**
   * It was asked, or somebody else has asked that already.
   * @param {number} now
   */
  nudged(now) {
    this.#nudgedAt = now;
    this.#nudgeAt = now + this.#intervalMs;
    this.#intervalMs = Math.min(2 * this.#intervalMs, LONGEST_NUDGE_MS);
  }
}
