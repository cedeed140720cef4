/** The token in use, the one that was refused, and where a renewal stands. */

/**
 * Where the renewal of the credential of a live session stands.
 *
 *     SETTLED ──expiring──▶ ASKING ──token──▶ SENT ──ready──▶ SETTLED
 *                             │  ▲              │
 *          failed, same token │  │ due          │ error, no answer
 *                             ▼  │              │
 *                             DUE ◀─────────────┘
 *
 * @enum {string}
 */
export const Renewal = Object.freeze({ SETTLED: "settled", DUE: "due", ASKING: "asking", SENT: "sent" });

const RETRY_MS = 5_000;

/** What the session knows of its tokens. Times in monotonic milliseconds. */
export class Credential {
  /** @type {string | null} */
  #sent = null;
  #sentAt = -Infinity;
  #timeoutMs;

  /** @param {number} timeoutMs how long the provider may take */
  constructor(timeoutMs) {
    this.#timeoutMs = timeoutMs;
    /** @type {string | null} */
    this.token = null;
    /** @type {string | null} */
    this.refused = null;
    /** @type {string | null} */
    this.expiresAt = null;
    /** @type {Renewal} */
    this.renewal = Renewal.SETTLED;
    /**
     * The id of the renewal that was sent.
     * @type {string | null}
     */
    this.request = null;
    /** When a renewal has to go on, or the provider has taken too long for it. */
    this.dueAt = Infinity;
  }

  /**
   * The gateway said ready.
   * @param {string | null} expiresAt RFC 3339
   */
  accepted(expiresAt) {
    if (this.renewal === Renewal.SENT) {
      this.token = this.#sent;
    }
    this.refused = null;
    this.expiresAt = expiresAt;
    this.settle();
  }

  /** The token in use is not taken any more. */
  refuse() {
    this.refused = this.token;
  }

  /** No renewal is under way. */
  settle() {
    this.renewal = Renewal.SETTLED;
    this.dueAt = Infinity;
    this.#sent = this.request = null;
  }

  /**
   * Whether to ask the provider now. Tokens that hardly live may not make the session ask all the time.
   * @param {number} now
   * @returns {boolean}
   */
  expiring(now) {
    if (this.renewal !== Renewal.SETTLED) {
      return false;
    }
    if (now < this.#sentAt + RETRY_MS) {
      this.renewal = Renewal.DUE;
      this.dueAt = this.#sentAt + RETRY_MS;
      return false;
    }
    this.ask(now);
    return true;
  }

  /**
   * The provider is asked.
   * @param {number} now
   */
  ask(now) {
    this.renewal = Renewal.ASKING;
    this.dueAt = now + this.#timeoutMs;
  }

  /**
   * The renewal is sent.
   * @param {string} token
   * @param {string} request
   * @param {number} now
   */
  send(token, request, now) {
    this.renewal = Renewal.SENT;
    this.request = request;
    this.dueAt = now + RETRY_MS;
    this.#sent = token;
    this.#sentAt = now;
  }

  /**
   * It did not work; the old token holds until its end, so there is time to try again.
   * @param {number} now
   */
  postpone(now) {
    this.renewal = Renewal.DUE;
    this.request = null;
    this.dueAt = now + RETRY_MS;
  }
}
