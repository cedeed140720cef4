/**
 * What an `ended` message says; a word for `reconnect` that this SDK does not know means later.
 * @param {Ended} message
 * @returns {End}
 */
export function endOfMessage({ code, message, reconnect, retryAfterS }: Ended): End;
/**
 * What a close without an `ended` message says.
 * @param {number | null} closeCode null: the connection was cut
 * @param {string} reason
 * @returns {End}
 */
export function endOfClose(closeCode: number | null, reason: string): End;
/**
 * The gateway sent what is no message.
 * @param {string} message
 * @returns {End}
 */
export function malformed(message: string): End;
/**
 * The gateway sends nothing.
 * @returns {End}
 */
export function silent(): End;
/**
 * The application's own side wished for it, and will connect again.
 * @returns {End}
 */
export function wished(): End;
/**
 * The provider's token leads to another principal: what is held is not theirs to see.
 * @returns {End}
 */
export function somebodyElse(): End;
/**
 * The provider could not get a token because the network or the gateway was away: no connection could be made, and no
 * token was refused. Null for any other failure of it.
 * @param {unknown} cause
 * @returns {End | null}
 */
export function unreached(cause: unknown): End | null;
/**
 * What to do after an end.
 */
export type Reconnect = string;
/** @typedef {import("./errors.js").ChannelError} ChannelError */
/** @typedef {import("./messages.js").Ended} Ended */
/**
 * What to do after an end.
 * @enum {string}
 */
export const Reconnect: Readonly<{
    NOW: "now";
    LATER: "later";
    NEW_CREDENTIAL: "new_credential";
    NEVER: "never";
}>;
/** How a connection, or the attempt to make one, ended. */
export class End {
    /**
     * @param {string} code
     * @param {string} message
     * @param {Reconnect} reconnect
     * @param {number} [retryAfterS] the least time to wait, in seconds
     */
    constructor(code: string, message: string, reconnect: Reconnect, retryAfterS?: number);
    /** Whether something went wrong. */
    isFailure: boolean;
    code: string;
    message: string;
    reconnect: string;
    retryAfterS: number;
    /**
     * The error that an application sees.
     * @returns {ChannelError}
     */
    error(): ChannelError;
}
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
    constructor(baseMs: number, capMs: number, stableMs: number);
    baseMs: number;
    capMs: number;
    stableMs: number;
    failures: number;
    /**
     * How long to wait after `end`, in milliseconds.
     * @param {End} end
     * @param {number} livedMs how long the session was live
     * @param {number} chance a random number in [0, 1)
     * @returns {number}
     */
    after(end: End, livedMs: number, chance: number): number;
    /**
     * How long to wait, in milliseconds, because the provider has nothing but the token that was just refused, or nothing
     * at all.
     * @param {number} chance a random number in [0, 1)
     * @returns {number}
     */
    afterRefusedToken(chance: number): number;
    /**
     * How long to wait, in milliseconds, because the provider failed.
     * @param {unknown} cause
     * @param {number} chance a random number in [0, 1)
     * @returns {number}
     */
    afterNoToken(cause: unknown, chance: number): number;
    #private;
}
export type ChannelError = import("./errors.js").ChannelError;
export type Ended = import("./messages.js").Ended;
