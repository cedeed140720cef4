/** @import { ChannelError } from "./errors.js" */
/** @import { Effect, MeasurePing, Request, SyncDocument } from "./events.js" */
/** @import { ServerMessage } from "./messages.js" */
/** @import { Proof } from "./proof.js" */
/** @import { ClientMessage } from "./wire.js" */
/** Everything that is said on a live session. Effects go into the list that it was made with. */
export class Conversation {
    /**
     * @param {Iterable<string>} watch
     * @param {Effect[]} effects
     * @param {{verify: boolean, requestTimeoutMs: number}} options
     */
    constructor(watch: Iterable<string>, effects: Effect[], options: {
        verify: boolean;
        requestTimeoutMs: number;
    });
    spending: Spending;
    /** What is held. */
    get replica(): import("./replica.js").Replica;
    /**
     * Who this is; null before it is known.
     * @returns {string | null}
     */
    get principal(): string | null;
    /**
     * What time it is.
     * @param {number} now
     * @param {number} chance a random number in [0, 1)
     */
    at(now: number, chance: number): void;
    /**
     * The gateway said hello.
     * @param {number} maxFrameBytes how large a frame may be
     */
    greeted(maxFrameBytes: number): void;
    /**
     * What to watch at connecting; see `Wishes`.
     * @param {number} budget bytes
     * @returns {string[]}
     */
    entries(budget: number): string[];
    /**
     * The session is live.
     * @param {string} principal
     */
    begin(principal: string): void;
    /**
     * The connection is gone: requests fail, except that what is not wanted any more will not be asked for.
     * @param {ChannelError} error
     */
    lose(error: ChannelError): void;
    /**
     * No connection will come any more. After an error nothing is held either: nobody may act on it.
     * @param {ChannelError | null} error
     */
    stop(error: ChannelError | null): void;
    /** Positions in the change log begin anew: nobody can wait for an old one. */
    newEpoch(): void;
    /**
     * The canonical name of a document; `self` is an alias.
     * @param {string} name
     * @returns {string}
     */
    resolve(name: string): string;
    /**
     * Carry out a request of the application.
     * @param {Request} request
     */
    request(request: Request): void;
    /**
     * Nobody waits for this request any more.
     * @param {string} id
     */
    forget(id: string): void;
    /**
     * Send a message.
     * @param {ClientMessage} message
     */
    send(message: ClientMessage): void;
    /**
     * Ask for a sign of life.
     * @returns {string} the id of the ping
     */
    ping(): string;
    /**
     * An id for a message that is no request of the application.
     * @returns {string}
     */
    ownId(): string;
    /**
     * A message about documents or requests.
     * @param {ServerMessage} message
     * @param {Proof | null} proof of the copy that it leads to
     */
    receive(message: ServerMessage, proof: Proof | null): void;
    /**
     * What came of this document was dropped.
     * @param {string} doc
     */
    missed(doc: string): void;
    /**
     * When `tick` has something to do; infinite when it has not.
     * @returns {number}
     */
    deadline(): number;
    /** Give up on requests that nobody answers, ask again for documents that are not exact, nudge for those who wait. */
    tick(): void;
    #private;
}
import { Spending } from "./spending.js";
import type { ChannelError } from "./errors.js";
import type { Request } from "./events.js";
import type { ClientMessage } from "./wire.js";
import type { ServerMessage } from "./messages.js";
import type { Proof } from "./proof.js";
import type { Effect } from "./events.js";
