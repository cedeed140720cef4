/**
 * Every error that the SDK raises, by the gateway's stable code.
 *
 * A request that fails is rejected with the class of its `error.code`; a channel that stopped for good ends with the
 * class of its end. Codes that this version does not know become a plain `ChannelError`, with the code in `code`.
 */

/**
 * @typedef {object} ErrorDetails
 * @property {string} [code] the gateway's stable word
 * @property {number | null} [retryAfterS] seconds after which trying again can help
 * @property {string | null} [doc] the document that the error is about
 * @property {unknown} [cause] the error behind it
 */

/** @typedef {"exhausted" | "forbidden" | "offline" | "stopped"} StopReason */

/** A request that failed or a connection that ended. */
export class ChannelError extends Error {
  /** The code where none is given. */
  static defaultCode = "internal";

  /**
   * @param {string} message one sentence
   * @param {ErrorDetails} [details]
   */
  constructor(message, { code, retryAfterS = null, doc = null, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = new.target.name;
    /**
     * The gateway's stable word.
     * @type {string}
     */
    this.code = code || new.target.defaultCode;
    /**
     * Seconds after which trying again can help.
     * @type {number | null}
     */
    this.retryAfterS = retryAfterS;
    /**
     * The document that the error is about.
     * @type {string | null}
     */
    this.doc = doc;
    /**
     * Set for a request to spend of which it is not known whether it was carried out, or will be, and only then: asking
     * again with this key (the lease's name, for a lease) charges nothing twice.
     * @type {string | null}
     */
    this.key = null;
  }
}

/** The gateway did not understand the request. */
export class BadRequest extends ChannelError {
  static defaultCode = "bad_request";
}

/** The gateway does not know this operation: it is older than this SDK. */
export class UnknownOp extends ChannelError {
  static defaultCode = "unknown_op";
}

/** The document does not exist, or this principal may not know that it does. */
export class NotFound extends ChannelError {
  static defaultCode = "not_found";
}

/** The principal is known and may not do this; a channel that ended so does not come back. */
export class Forbidden extends ChannelError {
  static defaultCode = "forbidden";
}

/** Too many requests; `retryAfterS` says when to go on. */
export class RateLimited extends ChannelError {
  static defaultCode = "rate_limited";
}

/** The gateway can not do this now; trying again helps. */
export class Unavailable extends ChannelError {
  static defaultCode = "unavailable";
}

/**
 * @typedef {object} QuotaDetails
 * @property {string} [quota] its name
 * @property {number} [remaining] units that it still leaves
 * @property {string | null} [resetsAt] RFC 3339, UTC
 */

/**
 * A hard limit does not leave the amount that was asked for: nothing was taken. With a `key` an earlier attempt was
 * lost, which may be carried out yet: do without, and try again with no other key than that.
 */
export class QuotaExceeded extends ChannelError {
  static defaultCode = "quota_exceeded";

  /**
   * @param {string} message one sentence
   * @param {ErrorDetails & QuotaDetails} [details]
   */
  constructor(message, { quota = "", remaining = 0, resetsAt = null, ...details } = {}) {
    super(message, details);
    /** The quota's name. */
    this.quota = quota;
    /** How many units it still leaves (for this member, of a pool). */
    this.remaining = remaining;
    /** When its period ends (RFC 3339, UTC); null for one that never does. */
    this.resetsAt = resetsAt;
  }
}

/** The key or the lease stands for another request, or the lease is settled already. */
export class Conflict extends ChannelError {
  static defaultCode = "conflict";
}

/** The gateway knows no lease of this name. */
export class LeaseNotFound extends ChannelError {
  static defaultCode = "lease_not_found";
}

/** The lease ended before it was extended or settled: its units were given back. */
export class LeaseExpired extends ChannelError {
  static defaultCode = "lease_expired";
}

/** A meter stopped what it metered; `cause` is the error behind it, if there is one. */
export class MeterStopped extends ChannelError {
  static defaultCode = "meter_stopped";

  /**
   * @param {StopReason} reason `exhausted` (no unit is left), `forbidden` (the permission or the quota is gone),
   *   `offline` (the gateway could not be asked for too long) or `stopped` (the channel ended for good)
   * @param {unknown} [cause] the error behind it
   */
  constructor(reason, cause) {
    super(`The meter stopped: ${reason}.`, { cause });
    this.reason = reason;
  }
}

/** The session watches as many documents as it may. */
export class TooManyDocuments extends ChannelError {
  static defaultCode = "too_many_documents";
}

/** The credential is not valid. */
export class AuthFailed extends ChannelError {
  static defaultCode = "auth_failed";
}

/** The credential ended before the provider gave another one. */
export class TokenExpired extends ChannelError {
  static defaultCode = "token_expired";
}

/** The token provider failed; what it threw is the `cause`. */
export class TokenUnavailable extends ChannelError {
  static defaultCode = "token_unavailable";
}

/**
 * There is no connection: it was lost, refused for now, ended by the gateway for now, or closed by the application.
 *
 * `code` says which: `disconnected`, `closed`, or the code of the end (`going_away`, `overloaded`, …).
 */
export class Disconnected extends ChannelError {
  static defaultCode = "disconnected";
}

/**
 * The gateway did not answer this request in time; it may have been carried out. `key` is what to ask again with when
 * it was to spend.
 */
export class RequestTimeout extends ChannelError {
  static defaultCode = "request_timeout";
}

/** The database was restored: positions from before mean nothing now. */
export class EpochChanged extends ChannelError {
  static defaultCode = "epoch_changed";
}

/** The other side sent something that is no message of the protocol. */
export class MalformedMessage extends ChannelError {
  static defaultCode = "malformed_message";
}

/** The credential was revoked, or the user disabled or deleted: the channel does not come back. */
export class Revoked extends ChannelError {
  static defaultCode = "revoked";
}

/** A new credential belonged to somebody else: the channel does not come back. */
export class PrincipalChanged extends ChannelError {
  static defaultCode = "principal_changed";
}

/** The gateway could not read what this SDK sent. */
export class BadFrame extends ChannelError {
  static defaultCode = "bad_frame";
}

/** A message is larger than the gateway's `max_frame_bytes`. */
export class TooLarge extends ChannelError {
  static defaultCode = "too_large";
}

/** Something else than a credential was sent first. */
export class NotAuthenticated extends ChannelError {
  static defaultCode = "not_authenticated";
}

/** @param {(typeof ChannelError)[]} kinds */
const byCode = (...kinds) => new Map(kinds.map((kind) => [kind.defaultCode, kind]));

const REQUEST_ERRORS = byCode(
  BadRequest,
  UnknownOp,
  NotFound,
  Forbidden,
  RateLimited,
  Unavailable,
  QuotaExceeded,
  Conflict,
  LeaseNotFound,
  LeaseExpired,
  TooManyDocuments,
  AuthFailed,
);

const ENDS = byCode(
  BadRequest,
  AuthFailed,
  TokenExpired,
  Revoked,
  PrincipalChanged,
  BadFrame,
  TooLarge,
  NotAuthenticated,
  Forbidden,
);

/**
 * Whether asking again, some other time, can help: the gateway was away, or could not.
 * @param {unknown} error
 * @returns {boolean}
 */
export function passes(error) {
  const passing = [Disconnected, RequestTimeout, Unavailable, RateLimited].some((kind) => error instanceof kind);
  return passing && error instanceof ChannelError && error.code !== "closed";
}

/**
 * The error of a failed request.
 * @param {string} code
 * @param {string} message
 * @param {ErrorDetails} [details]
 * @returns {ChannelError}
 */
export function requestError(code, message, details = {}) {
  const kind = REQUEST_ERRORS.get(code) ?? ChannelError;
  return new kind(message, { ...details, code });
}

/**
 * The error of an ended connection; ends that this SDK comes back from by itself are `Disconnected`.
 * @param {string} code
 * @param {string} message
 * @param {{final: boolean, retryAfterS?: number | null}} details `final`: the channel does not come back
 * @returns {ChannelError}
 */
export function endError(code, message, { final, retryAfterS = null }) {
  const kind = ENDS.get(code) ?? (final ? ChannelError : Disconnected);
  return new kind(message, { code, retryAfterS });
}

/**
 * Another error that says the same, for somebody else who is told.
 * @param {ChannelError} error one that a connection ended with, or that a request was refused with
 * @returns {ChannelError}
 */
export function copyOf(error) {
  const copy = new Error(error.message, "cause" in error ? { cause: error.cause } : undefined);
  return Object.assign(Object.setPrototypeOf(copy, Object.getPrototypeOf(error)), error);
}
