/**
 * @typedef {object} Asked One request.
 * @property {SpendingMessage} message
 * @property {number} number which one of all; the older one goes first
 * @property {number} deadline
 * @property {number} unknown how many times it was sent of which nobody said what became of it
 * @property {ChannelError | null} trouble
 */
/**
 * What to ask again with: the key, or the name of the lease.
 * @param {SpendingMessage} message
 * @returns {string}
 */
export function keyOf(message: SpendingMessage): string;
/** The requests to spend of a session. */
export class Spending {
    /**
     * @param {Effect[]} effects what it wants goes in here
     * @param {(message: SpendingMessage) => void} send sends a message on the present connection
     * @param {number} silenceMs how long an answer may take before the request is sent once more on the same connection
     */
    constructor(effects: Effect[], send: (message: SpendingMessage) => void, silenceMs: number);
    /**
     * Ask now, or as soon as there is a connection.
     * @param {Spend} request
     * @param {number} now
     */
    ask({ id, message, timeoutMs }: Spend, now: number): void;
    /**
     * Nobody waits for this request any more; it is not sent again.
     * @param {string} id
     * @param {number} now
     */
    forget(id: string, now: number): void;
    /**
     * The session is live: what was not answered before is asked again.
     * @param {number} now
     */
    begin(now: number): void;
    /** The connection is gone, and every answer with it. */
    lose(): void;
    /**
     * No connection will come any more.
     * @param {ChannelError} error
     */
    stop(error: ChannelError): void;
    /**
     * A request succeeded; whether it was one of these.
     * @param {Reply} message
     * @param {number} now
     * @returns {boolean}
     */
    reply(message: Reply, now: number): boolean;
    /**
     * A request failed, for good or for now; whether it was one of these.
     * @param {ErrorMessage} message
     * @param {number} now
     * @param {number} chance a random number in [0, 1)
     * @returns {boolean}
     */
    error(message: ErrorMessage, now: number, chance: number): boolean;
    /**
     * When `tick` has something to do; infinite when it has not.
     * @returns {number}
     */
    deadline(): number;
    /**
     * Give up on what took too long, and send again what is due.
     * @param {number} now
     */
    tick(now: number): void;
    #private;
}
/**
 * One request.
 */
export type Asked = {
    message: SpendingMessage;
    /**
     * which one of all; the older one goes first
     */
    number: number;
    deadline: number;
    /**
     * how many times it was sent of which nobody said what became of it
     */
    unknown: number;
    trouble: ChannelError | null;
};
export type ChannelError = import("./errors.js").ChannelError;
export type Effect = import("./events.js").Effect;
export type Spend = import("./events.js").Spend;
export type ErrorMessage = import("./messages.js").ErrorMessage;
export type Reply = import("./messages.js").Reply;
export type SpendingMessage = import("./wire.js").SpendingMessage;
