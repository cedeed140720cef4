/**
 * What was asked.
 */
export type Kind = string;
/** Requests that wait for an answer. */
/** @typedef {import("./errors.js").ChannelError} ChannelError */
/**
 * What was asked.
 * @enum {string}
 */
export const Kind: Readonly<{
    WATCH: "watch";
    UNWATCH: "unwatch";
    SYNC: "sync";
    PING: "ping";
}>;
/** One request under way. */
export class Pending {
    /**
     * @param {string} id
     * @param {Kind} kind
     * @param {number} sentAt monotonic milliseconds
     * @param {number} deadline monotonic milliseconds
     * @param {boolean} own the session asked by itself, nobody waits for it
     * @param {Iterable<string>} docs what it is about and not answered yet
     */
    constructor(id: string, kind: Kind, sentAt: number, deadline: number, own: boolean, docs: Iterable<string>);
    id: string;
    kind: string;
    sentAt: number;
    deadline: number;
    own: boolean;
    docs: Set<string>;
    /** @type {string[]} */
    accepted: string[];
    /** @type {Map<string, ChannelError>} */
    refused: Map<string, ChannelError>;
    answered: boolean;
    /**
     * The gateway accepted these.
     * @param {Iterable<string>} docs
     */
    accept(docs: Iterable<string>): void;
    /**
     * The gateway refused this one.
     * @param {string} doc
     * @param {ChannelError} error
     */
    refuse(doc: string, error: ChannelError): void;
}
/** The requests of one connection, by id. */
export class Requests {
    /** @param {number} timeoutMs how long an answer may take */
    constructor(timeoutMs: number);
    /**
     * An id for a request of the session's own; never one of the application's.
     * @returns {string}
     */
    ownId(): string;
    /**
     * Wait for an answer.
     * @param {string} id
     * @param {Kind} kind
     * @param {number} now monotonic milliseconds
     * @param {Iterable<string>} [docs]
     * @param {{own?: boolean}} [whose]
     * @returns {Pending}
     */
    add(id: string, kind: Kind, now: number, docs?: Iterable<string>, { own }?: {
        own?: boolean;
    }): Pending;
    /**
     * The request if it still waits.
     * @param {string | null} id
     * @returns {Pending | null}
     */
    get(id: string | null): Pending | null;
    /**
     * Wait no longer.
     * @param {string} id
     */
    remove(id: string): void;
    /**
     * The connection is gone, and with it every answer.
     * @returns {Pending[]}
     */
    clear(): Pending[];
    /**
     * When the next one has waited too long, in monotonic milliseconds; infinite when there is none.
     * @returns {number}
     */
    deadline(): number;
    /**
     * Those that have waited too long; they are removed.
     * @param {number} now monotonic milliseconds
     * @returns {Pending[]}
     */
    overdue(now: number): Pending[];
    /** Those under way now, whatever is done to them meanwhile. */
    [Symbol.iterator](): ArrayIterator<Pending>;
    #private;
}
export type ChannelError = import("./errors.js").ChannelError;
