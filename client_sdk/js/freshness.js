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
   * So much more time may have passed than the clock says.
   * @param {number} gapMs
   */
  slept(gapMs) {
    if (this.#exactAt !== null) {
      this.#exactAt -= gapMs;
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
   * @param {string | null} amiss why not every document is known to be a true copy
   * @param {number} now
   * @returns {Freshness}
   */
  read(offline, amiss, now) {
    if (offline !== null) {
      return this.#amiss("offline", offline, now);
    }
    if (this.#storeIsStale) {
      return this.#amiss("stale", "store", now);
    }
    return amiss === null ? Object.freeze({ state: "live", ageS: 0, reason: "" }) : this.#amiss("stale", amiss, now);
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
