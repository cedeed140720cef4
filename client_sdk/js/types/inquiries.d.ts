/** Wishes, copies and the requests about them. Effects go into the list that it was made with. */
export class Inquiries {
    /**
     * @param {Iterable<string>} watch
     * @param {Effect[]} effects
     * @param {{verify: boolean, requestTimeoutMs: number}} options
     */
    constructor(watch: Iterable<string>, effects: Effect[], { verify, requestTimeoutMs }: {
        verify: boolean;
        requestTimeoutMs: number;
    });
    replica: Replica;
    requests: Requests;
    wishes: Wishes;
    maxFrameBytes: number;
    /** Monotonic milliseconds. */
    now: number;
    /**
     * Send a message.
     * @param {ClientMessage} message
     */
    send(message: ClientMessage): void;
    /**
     * Whether one message can hold all of these entries.
     * @param {readonly string[]} entries
     * @returns {boolean}
     */
    fit(entries: readonly string[]): boolean;
    /**
     * Ask for documents without anybody waiting, in as many messages as it takes.
     * @param {string[]} docs
     */
    watch(docs: string[]): void;
    /**
     * Ask for a document whole, unless that is under way.
     * @param {string} doc
     */
    suspect(doc: string): void;
    /**
     * Ask for a document whole even if that is under way: the answer may be lost.
     * @param {string} doc
     */
    askAgain(doc: string): void;
    /**
     * Ask for a document whole.
     * @param {string} doc
     */
    sync(doc: string): void;
    /**
     * A document is watched no longer.
     * @param {string} doc
     */
    forget(doc: string): void;
    /**
     * A request succeeded.
     * @param {Pending} pending
     * @param {unknown} value
     */
    resolve({ id, own }: Pending, value: unknown): void;
    /**
     * A request failed.
     * @param {Pending} pending
     * @param {ChannelError} error
     */
    reject({ id, own }: Pending, error: ChannelError): void;
    #private;
}
import { Replica } from "./replica.js";
import { Requests } from "./requests.js";
import { Wishes } from "./wishes.js";
import type { ClientMessage } from "./wire.js";
import type { Pending } from "./requests.js";
import type { ChannelError } from "./errors.js";
import type { Effect } from "./events.js";
