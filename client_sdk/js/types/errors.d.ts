/**
 * Whether asking again, some other time, can help: the gateway was away, or could not.
 * @param {unknown} error
 * @returns {boolean}
 */
export function passes(error: unknown): boolean;
/**
 * The error of a failed request.
 * @param {string} code
 * @param {string} message
 * @param {ErrorDetails} [details]
 * @returns {ChannelError}
 */
export function requestError(code: string, message: string, details?: ErrorDetails): ChannelError;
/**
 * The error of an ended connection; ends that this SDK comes back from by itself are `Disconnected`.
 * @param {string} code
 * @param {string} message
 * @param {{final: boolean, retryAfterS?: number | null}} details `final`: the channel does not come back
 * @returns {ChannelError}
 */
export function endError(code: string, message: string, { final, retryAfterS }: {
    final: boolean;
    retryAfterS?: number | null;
}): ChannelError;
/**
 * Another error that says the same, for somebody else who is told.
 * @param {ChannelError} error one that a connection ended with, or that a request was refused with
 * @returns {ChannelError}
 */
export function copyOf(error: ChannelError): ChannelError;
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
    static defaultCode: string;
    /**
     * @param {string} message one sentence
     * @param {ErrorDetails} [details]
     */
    constructor(message: string, { code, retryAfterS, doc, cause }?: ErrorDetails);
    /**
     * The gateway's stable word.
     * @type {string}
     */
    code: string;
    /**
     * Seconds after which trying again can help.
     * @type {number | null}
     */
    retryAfterS: number | null;
    /**
     * The document that the error is about.
     * @type {string | null}
     */
    doc: string | null;
    /**
     * Set for a request to spend of which it is not known whether it was carried out, or will be, and only then: asking
     * again with this key (the lease's name, for a lease) charges nothing twice.
     * @type {string | null}
     */
    key: string | null;
}
/** The gateway did not understand the request. */
export class BadRequest extends ChannelError {
}
/** The gateway does not know this operation: it is older than this SDK. */
export class UnknownOp extends ChannelError {
}
/** The document does not exist, or this principal may not know that it does. */
export class NotFound extends ChannelError {
}
/** The principal is known and may not do this; a channel that ended so does not come back. */
export class Forbidden extends ChannelError {
}
/** Too many requests; `retryAfterS` says when to go on. */
export class RateLimited extends ChannelError {
}
/** The gateway can not do this now; trying again helps. */
export class Unavailable extends ChannelError {
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
    /**
     * @param {string} message one sentence
     * @param {ErrorDetails & QuotaDetails} [details]
     */
    constructor(message: string, { quota, remaining, resetsAt, ...details }?: ErrorDetails & QuotaDetails);
    /** The quota's name. */
    quota: string;
    /** How many units it still leaves (for this member, of a pool). */
    remaining: number;
    /** When its period ends (RFC 3339, UTC); null for one that never does. */
    resetsAt: string | null;
}
/** The key or the lease stands for another request, or the lease is settled already. */
export class Conflict extends ChannelError {
}
/** The gateway knows no lease of this name. */
export class LeaseNotFound extends ChannelError {
}
/** The lease ended before it was extended or settled: its units were given back. */
export class LeaseExpired extends ChannelError {
}
/** A meter stopped what it metered; `cause` is the error behind it, if there is one. */
export class MeterStopped extends ChannelError {
    /**
     * @param {StopReason} reason `exhausted` (no unit is left), `forbidden` (the permission or the quota is gone),
     *   `offline` (the gateway could not be asked for too long) or `stopped` (the channel ended for good)
     * @param {unknown} [cause] the error behind it
     */
    constructor(reason: StopReason, cause?: unknown);
    reason: StopReason;
}
/** The session watches as many documents as it may. */
export class TooManyDocuments extends ChannelError {
}
/** The credential is not valid. */
export class AuthFailed extends ChannelError {
}
/** The credential ended before the provider gave another one. */
export class TokenExpired extends ChannelError {
}
/** The token provider failed; what it threw is the `cause`. */
export class TokenUnavailable extends ChannelError {
}
/**
 * There is no connection: it was lost, refused for now, ended by the gateway for now, or closed by the application.
 *
 * `code` says which: `disconnected`, `closed`, or the code of the end (`going_away`, `overloaded`, …).
 */
export class Disconnected extends ChannelError {
}
/**
 * The gateway did not answer this request in time; it may have been carried out. `key` is what to ask again with when
 * it was to spend.
 */
export class RequestTimeout extends ChannelError {
}
/** The database was restored: positions from before mean nothing now. */
export class EpochChanged extends ChannelError {
}
/** The other side sent something that is no message of the protocol. */
export class MalformedMessage extends ChannelError {
}
/** The credential was revoked, or the user disabled or deleted: the channel does not come back. */
export class Revoked extends ChannelError {
}
/** A new credential belonged to somebody else: the channel does not come back. */
export class PrincipalChanged extends ChannelError {
}
/** The gateway could not read what this SDK sent. */
export class BadFrame extends ChannelError {
}
/** A message is larger than the gateway's `max_frame_bytes`. */
export class TooLarge extends ChannelError {
}
/** Something else than a credential was sent first. */
export class NotAuthenticated extends ChannelError {
}
export type ErrorDetails = {
    /**
     * the gateway's stable word
     */
    code?: string | undefined;
    /**
     * seconds after which trying again can help
     */
    retryAfterS?: number | null | undefined;
    /**
     * the document that the error is about
     */
    doc?: string | null | undefined;
    /**
     * the error behind it
     */
    cause?: unknown;
};
export type StopReason = "exhausted" | "forbidden" | "offline" | "stopped";
export type QuotaDetails = {
    /**
     * its name
     */
    quota?: string | undefined;
    /**
     * units that it still leaves
     */
    remaining?: number | undefined;
    /**
     * RFC 3339, UTC
     */
    resetsAt?: string | null | undefined;
};
