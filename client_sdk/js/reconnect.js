/** Why a connection ended, and how long to wait before the next one. */

import { Disconnected, Unavailable, endError } from "./errors.js";

/** @typedef {import("./errors.js").ChannelError} ChannelError */
/** @typedef {import("./messages.js").Ended} Ended */

/**
 * What to do after an end.
 * @enum {string}
 */
export const Reconnect = Object.freeze({
  NOW: "now",
  LATER: "later",
  NEW_CREDENTIAL: "new_credential",
  NEVER: "never",
});

const { NOW, LATER, NEW_CREDENTIAL, NEVER } = Reconnect;

/** How a connection, or the attempt to make one, ended. */
export class End {
  /** Whether something went wrong. */
  isFailure = true;

  /**
   * @param {string} code
   * @param {string} message
   * @param {Reconnect} reconnect
   * @param {number} [retryAfterS] the least time to wait, in seconds
   */
  constructor(code, message, reconnect, retryAfterS = 0) {
    this.code = code;
    this.message = message;
    this.reconnect = reconnect;
    this.retryAfterS = retryAfterS;
  }

  /**
   * The error that an application sees.
   * @returns {ChannelError}
   */
  error() {
    return endError(this.code, this.message, {
      final: this.reconnect === NEVER,
      retryAfterS: this.retryAfterS || null,
    });
  }
}

/**
 * The table of ends: what a close code says when the message before it was lost (protocol §5; RFC 6455 §7.4.1 and the
 * IANA registry for 1011 to 1014).
 * @type {ReadonlyMap<number, readonly [code: string, reconnect: Reconnect]>}
 */
const CLOSE_CODES = new Map([
  [1001, ["going_away", NOW]],
  [1011, ["internal", LATER]],
  [1012, ["going_away", NOW]],
  [1013, ["overloaded", LATER]],
  [1014, ["unavailable", LATER]],
  [4000, ["internal", LATER]],
  [4001, ["timeout", NOW]],
  [4002, ["too_slow", NOW]],
  [4003, ["replaced", LATER]],
  [4004, ["overloaded", LATER]],
  [4005, ["rate_limited", LATER]],
  [4100, ["token_expired", NEW_CREDENTIAL]],
  [4101, ["auth_timeout", NOW]],
  [4102, ["auth_failed", NEW_CREDENTIAL]],
  [4500, ["revoked", NEVER]],
  [4501, ["principal_changed", NEVER]],
  [4502, ["bad_frame", NEVER]],
  [4503, ["too_large", NEVER]],
  [4504, ["not_authenticated", NEVER]],
  [4505, ["forbidden", NEVER]],
]);

/**
 * What an `ended` message says; a word for `reconnect` that this SDK does not know means later.
 * @param {Ended} message
 * @returns {End}
 */
export function endOfMessage({ code, message, reconnect, retryAfterS }) {
  const known = Object.values(Reconnect).find((word) => word === reconnect);
  return new End(code, message || code, known ?? LATER, Math.max(0, retryAfterS ?? 0));
}

/**
 * What a close without an `ended` message says.
 * @param {number | null} closeCode null: the connection was cut
 * @param {string} reason
 * @returns {End}
 */
export function endOfClose(closeCode, reason) {
  const known = closeCode === null ? undefined : CLOSE_CODES.get(closeCode);
  if (known !== undefined) {
    const [code, reconnect] = known;
    return new End(code, reason || code, reconnect);
  }
  if (closeCode === null || [1000, 1005, 1006].includes(closeCode)) {
    return new End("disconnected", reason || "The connection was lost.", NOW);
  }
  const reconnect = closeCode >= 4500 && closeCode <= 4999 ? NEVER : LATER;
  return new End("disconnected", reason || `The connection was closed with code ${closeCode}.`, reconnect);
}

/**
 * The gateway sent what is no message.
 * @param {string} message
 * @returns {End}
 */
export function malformed(message) {
  return new End("malformed_message", message, LATER);
}

/**
 * The gateway sends nothing.
 * @returns {End}
 */
export function silent() {
  return new End("disconnected", "The gateway did not answer in time.", NOW);
}

/**
 * The application's own side wished for it, and will connect again.
 * @returns {End}
 */
export function wished() {
  const end = new End("disconnected", "The page was left.", NOW);
  end.isFailure = false;
  return end;
}

/**
 * The provider's token leads to another principal: what is held is not theirs to see.
 * @returns {End}
 */
export function somebodyElse() {
  return new End("principal_changed", "The token belongs to somebody else.", NEVER);
}

/**
 * The provider could not get a token because the network or the gateway was away: no connection could be made, and no
 * token was refused. Null for any other failure of it.
 * @param {unknown} cause
 * @returns {End | null}
 */
export function unreached(cause) {
  if (cause instanceof Disconnected || cause instanceof Unavailable) {
    return new End(cause.code, cause.message, NOW, Math.max(0, cause.retryAfterS ?? 0));
  }
  return null;
}

const LATER_FAILURES = 3;
const REFUSED_TOKEN_FAILURES = 4;

/**
 * Exponential waits with full jitter: a random time up to a ceiling that doubles with each failure, never a hot loop.
 *
 * A connection that lived for `stableMs` clears the failures, except where the gateway says `later`: then it must have
 * lived for `capMs`. The shortest wait is a tenth of `baseMs`.
 */
export class Backoff {
  /**
   * @param {number} baseMs
   * @param {number} capMs
   * @param {number} stableMs
   */
  constructor(baseMs, capMs, stableMs) {
    this.baseMs = baseMs;
    this.capMs = capMs;
    this.stableMs = stableMs;
    this.failures = 0;
  }

  /**
   * How long to wait after `end`, in milliseconds.
   * @param {End} end
   * @param {number} livedMs how long the session was live
   * @param {number} chance a random number in [0, 1)
   * @returns {number}
   */
  after(end, livedMs, chance) {
    if (!end.isFailure) {
      return this.#jitter(chance);
    }
    if (end.reconnect === LATER) {
      const kept = livedMs >= this.capMs ? 0 : this.failures;
      this.failures = Math.max(kept + 1, LATER_FAILURES);
    } else if (livedMs >= this.stableMs) {
      this.failures = 0;
    } else {
      this.failures += 1;
    }
    return end.retryAfterS * 1000 + this.#jitter(chance);
  }

  /**
   * How long to wait, in milliseconds, because the provider has nothing but the token that was just refused, or nothing
   * at all.
   * @param {number} chance a random number in [0, 1)
   * @returns {number}
   */
  afterRefusedToken(chance) {
    this.failures = Math.max(this.failures + 1, REFUSED_TOKEN_FAILURES);
    return this.#jitter(chance);
  }

  /**
   * How long to wait, in milliseconds, because the provider failed.
   * @param {unknown} cause
   * @param {number} chance a random number in [0, 1)
   * @returns {number}
   */
  afterNoToken(cause, chance) {
    const end = unreached(cause);
    return end === null ? this.afterRefusedToken(chance) : this.after(end, 0, chance);
  }

  /** @param {number} chance */
  #jitter(chance) {
    const ceiling = Math.min(this.capMs, this.baseMs * 2 ** Math.min(this.failures, 32));
    const floor = Math.min(this.baseMs / 10, ceiling);
    return floor + chance * (ceiling - floor);
  }
}
