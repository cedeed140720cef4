/** @typedef {import("./environment.js").Environment} Environment */
/** @typedef {import("./events.js").Effect} Effect */
/** @typedef {import("./events.js").Event} Event */
/** @typedef {import("./events.js").Request} Request */
/** @typedef {import("./freshness.js").Freshness} Freshness */
/** @typedef {import("./listeners.js").Listeners} Listeners */
/** @typedef {import("./provider.js").TokenProvider} TokenProvider */
/** @typedef {import("./session.js").Session} Session */
/** @typedef {import("./socket.js").Endpoint} Endpoint */
/** @typedef {import("./wire.js").Reply} Reply */
/** @typedef {import("./wire.js").SpendingMessage} SpendingMessage */
/** One session, its connection, its timers, its token provider, and those who wait for answers. */
export class Runner {
    /**
     * @param {Session} session
     * @param {Endpoint} endpoint
     * @param {string | TokenProvider} token
     * @param {Listeners} listeners are told what happens
     * @param {Environment} environment
     */
    constructor(session: Session, endpoint: Endpoint, token: string | TokenProvider, listeners: Listeners, environment: Environment);
    session: import("./session.js").Session;
    environment: import("./environment.js").Environment;
    /** Tells when more time may have passed than `now` says. */
    gaps: Gaps;
    /**
     * Done when every watched document is there; null before `start`.
     * @type {Promise<void> | null}
     */
    opened: Promise<void> | null;
    /**
     * What went wrong last.
     * @type {ChannelError | null}
     */
    trouble: ChannelError | null;
    /**
     * What the channel ended with, null when the application closed it; undefined before the end.
     * @type {Error | null | undefined}
     */
    fault: Error | null | undefined;
    /**
     * The time that everything goes by.
     * @returns {number} milliseconds
     */
    now(): number;
    /**
     * Whether no connection will come any more.
     * @returns {boolean}
     */
    get ended(): boolean;
    /**
     * Begin.
     * @returns {Promise<void>} `opened`
     */
    start(): Promise<void>;
    /**
     * End everything, and wait until the socket has said goodbye or has taken too long for that.
     * @returns {Promise<void>}
     */
    stop(): Promise<void>;
    /**
     * Have the session carry out a request, made with an id.
     * @param {(id: string) => Request} make
     * @param {AbortSignal} [signal] nobody waits for it any more; rejects with its reason
     * @returns {Promise<any>} what comes of it
     */
    request(make: (id: string) => Request, signal?: AbortSignal): Promise<any>;
    /**
     * Have a request to spend carried out, made with an `id`; it survives reconnects.
     * @param {(id: string) => SpendingMessage} make
     * @param {number} timeoutMs
     * @param {AbortSignal} [signal]
     * @returns {Promise<Reply>}
     */
    spend(make: (id: string) => SpendingMessage, timeoutMs: number, signal?: AbortSignal): Promise<Reply>;
    /**
     * Call back when the clock shows `when`, unless the channel ends before.
     * @param {number} when milliseconds
     * @param {() => void} callback
     * @returns {() => void} what ends it
     */
    callAt(when: number, callback: () => void): () => void;
    #private;
}
export type Environment = import("./environment.js").Environment;
export type Effect = import("./events.js").Effect;
export type Event = import("./events.js").Event;
export type Request = import("./events.js").Request;
export type Freshness = import("./freshness.js").Freshness;
export type Listeners = import("./listeners.js").Listeners;
export type TokenProvider = import("./provider.js").TokenProvider;
export type Session = import("./session.js").Session;
export type Endpoint = import("./socket.js").Endpoint;
export type Reply = import("./wire.js").Reply;
export type SpendingMessage = import("./wire.js").SpendingMessage;
import { Gaps } from "./alarms.js";
import { ChannelError } from "./errors.js";
