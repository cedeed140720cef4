/** How true the documents are that a channel holds. */

/** @typedef {"live" | "stale" | "offline"} FreshnessState */

/**
 * @typedef {object} Freshness How true the documents are that a channel holds.
 * @property {FreshnessState} state `live`: connected, and every watched document is exact. `stale`: connected, but the
 *   gateway can not reach its database, or a document is still on its way. `offline`: not connected
 * @property {number | null} ageS how many seconds ago everything held was last known to be true; 0 when live, null when
 *   it never was
 * @property {string} reason a word for what is amiss: `connecting`, `store`, `document`, `network` (the system says
 *   that there is none), or the code of the last end
 */

/** Remembers when everything held was last known to be true. Times in monotonic milliseconds. */
export class FreshnessMeter {
  /** @type {number | null} */
  #exactAt = null;
  /** @type {FreshnessState} */
  #reported = "offline";
  #storeIsStale = false;

  /** A session begins; the gateway says at once if its database is away. */
  connected() {
    this.#storeIsStale = false;
  }

  /**
   * Something came from the gateway: what was true until now was true.
   * @param {number} now
   */
  heard(now) {
    if (this.#reported === "live") {
      this.#exactAt = now;
    }
  }

  /**
   * The gateway says that something it sent may be this old.
   * @param {number} ageS
   * @param {number} now
   */
  stale(ageS, now) {
    const known = now - Math.max(0, ageS) * 1000;
    this.#exactAt = this.#exactAt === null ? known : Math.min(this.#exactAt, known);
  }

  /**
   * The gateway can not reach its database, or can again.
   * @param {boolean} isStale
   */
  store(isStale) {
    this.#storeIsStale = isStale;
  }

  /**
   * How true everything is.
   * @param {string | null} offline why there is no session
   * @param {boolean} exact whether every document is a true copy
   * @param {number} now
   * @returns {Freshness}
   */
  read(offline, exact, now) {
    if (offline !== null) {
      return this.#amiss("offline", offline, now);
    }
    if (this.#storeIsStale) {
      return this.#amiss("stale", "store", now);
    }
    return exact ? Object.freeze({ state: "live", ageS: 0, reason: "" }) : this.#amiss("stale", "document", now);
  }

  /**
   * @param {FreshnessState} state
   * @param {string} reason
   * @param {number} now
   * @returns {Freshness}
   */
  #amiss(state, reason, now) {
    const ageS = this.#exactAt === null ? null : Math.max(0, now - this.#exactAt) / 1000;
    return Object.freeze({ state, ageS, reason });
  }

  /**
   * Whether this is another state than the last time.
   * @param {Freshness} freshness
   * @param {number} now
   * @returns {boolean}
   */
  changed({ state }, now) {
    if (state === this.#reported) {
      return false;
    }
    this.#reported = state;
    if (state === "live") {
      this.#exactAt = now;
    }
    return true;
  }
}
