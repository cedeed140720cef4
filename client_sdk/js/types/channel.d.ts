/** @typedef {import("./document.js").Data} Data */
/** @import { Environment, SocketClass } from "./environment.js" */
/** @typedef {import("./errors.js").ChannelError} ChannelError */
/** @import { Change, Watched } from "./events.js" */
/** @typedef {import("./freshness.js").Freshness} Freshness */
/** @typedef {import("./lease.js").LeaseOptions} LeaseOptions */
/** @import { Changes, News } from "./listeners.js" */
/** @typedef {import("./options.js").SessionOptions} SessionOptions */
/** @typedef {import("./provider.js").TokenProvider} TokenProvider */
/** @import { Balance, Quotas } from "./quota.js" */
/**
 * What a channel takes besides the options of its session.
 * @typedef {object} OwnOptions
 * @property {number | null} [openTimeoutMs] how long opening may take, 10,000 when not given; null: for ever
 * @property {number} [closeTimeoutMs] how long a goodbye may take, 1,000 when not given
 * @property {SocketClass} [WebSocket] the class to make sockets of, where there is no global one
 * @property {Partial<Environment>} [environment] for tests: other clocks, timers, chance, digests, pages
 */
/** @typedef {SessionOptions & OwnOptions} ChannelOptions */
/**
 * @typedef {object} ConsumeOptions
 * @property {string | null} [key] 1 to 128 characters that name this request; a new one when not given
 * @property {string | null} [org] an organization of the user: take from its pool
 * @property {number} [timeoutMs] how long to go on asking, 30,000 when not given
 * @property {AbortSignal} [signal] nobody waits any more; what was sent may be carried out all the same
 */
/** @typedef {{signal?: AbortSignal}} Waiting `signal`: nobody waits any more, and the call rejects with its reason. */
/**
 * Documents of the gateway, held as exact copies over one WebSocket that comes back by itself.
 *
 *     const channel = new Channel("https://gateway.example.org", token);
 *     await channel.open();
 *     show(channel.can("can_use_voice"), channel.quotas.voice_minutes?.remaining);
 *     channel.on("change", (change) => show(change.doc, change.causes, change.patch));
 *
 * Opening waits until every watched document is there, at most `openTimeoutMs`, and rejects with `AuthFailed`,
 * `Disconnected`, or whatever else ends a channel for good. From then on the channel reconnects by itself; `freshness`
 * says how old what it holds may be.
 */
export class Channel {
    /**
     * @param {string | URL | null} server an `http(s)` or `ws(s)` URL; null: the page's own origin
     * @param {string | TokenProvider} token a token, or a function that is asked for one before every connection and when
     *   the token is about to end
     * @param {ChannelOptions} [options]
     * @throws {TypeError} an argument can not be used, or there is no WebSocket here
     */
    constructor(server: string | URL | null, token: string | TokenProvider, options?: ChannelOptions);
    /**
     * Connect, and wait until every watched document is there.
     * @returns {Promise<void>}
     */
    open(): Promise<void>;
    /**
     * Close the channel for good, also before it was opened. Requests under way fail, iterations end; what was held can
     * still be read.
     * @returns {Promise<void>} done when the gateway has said goodbye, or took longer than `closeTimeoutMs`
     */
    close(): Promise<void>;
    /**
     * The own document; empty before it came, or when it is not watched. Treat it as immutable.
     * @returns {Data}
     */
    get document(): Data;
    /**
     * Every document that is held, by its canonical name; the same object until one changes. Treat them as immutable.
     * @returns {Readonly<Record<string, Data | undefined>>}
     */
    get documents(): Readonly<Record<string, Data | undefined>>;
    /** What the user may do. */
    get permissions(): ReadonlySet<string>;
    /**
     * Whether the user has this permission, as far as is known: see `freshness`.
     * @param {string} permission
     * @returns {boolean}
     */
    can(permission: string): boolean;
    /**
     * The user's quotas by name.
     * @returns {Quotas}
     */
    get quotas(): Quotas;
    /**
     * The position in the change log up to which the own document is exact; 0 before it came.
     * @returns {number}
     */
    get seq(): number;
    /**
     * How true everything is: `live`, `stale` or `offline`, and how old it may be.
     * @returns {Freshness}
     */
    get freshness(): Freshness;
    /**
     * Who this is, `user:ID` or `instance:ID`; null before the first session.
     * @returns {string | null}
     */
    get principal(): string | null;
    /**
     * The gateway's name of the present session, or of the last one.
     * @returns {string | null}
     */
    get sessionId(): string | null;
    /**
     * When the credential ends (RFC 3339, UTC); null when it does not, or before the first session.
     * @returns {string | null}
     */
    get expiresAt(): string | null;
    /**
     * What went wrong last, although the channel may have got over it.
     * @returns {ChannelError | null}
     */
    get trouble(): ChannelError | null;
    /**
     * How many copies were not what their revision said; each was asked for again.
     * @returns {number}
     */
    get mismatches(): number;
    /**
     * Whether every copy is checked against its revision: only secure contexts (https, localhost, Node) have digests.
     * @returns {boolean}
     */
    get verified(): boolean;
    /**
     * Iterate over changes: first one for every document that is held now, then each that comes.
     *
     * A reader that is slow gets fewer, larger changes. The iteration ends when the channel is closed, and throws what
     * stopped it for good.
     * @returns {Changes}
     */
    changes(): Changes;
    /**
     * Call back for every `change` (of all documents, or of `doc`; `self` is the own one), whenever the channel becomes
     * live, stale or offline (`freshness`), for what goes wrong and is dealt with (`trouble`), and at the end (`ended`).
     * What the callback throws is reported.
     * @template {keyof News} K
     * @param {K} kind
     * @param {(news: News[K]) => unknown} callback
     * @param {{doc?: string | null}} [options]
     * @returns {() => void} what ends it
     */
    on<K extends keyof News>(kind: K, callback: (news: News[K]) => unknown, { doc }?: {
        doc?: string | null;
    }): () => void;
    /**
     * Watch documents from now on, and wait until they are there.
     *
     * Those that were refused stand in the result with the reason; when all were, it rejects with that error. Without a
     * connection it rejects with `Disconnected`, and they are asked for with the next one, unless they are unwatched.
     * @param {string | Iterable<string>} docs
     * @param {Waiting} [options]
     * @returns {Promise<Watched>}
     */
    watch(docs: string | Iterable<string>, { signal }?: Waiting): Promise<Watched>;
    /**
     * Stop watching documents; what is held of them is dropped.
     * @param {string | Iterable<string>} docs
     * @returns {Promise<void>}
     */
    unwatch(docs: string | Iterable<string>): Promise<void>;
    /**
     * Have a document sent whole again. Rejects with `NotFound` for one that is not watched.
     * @param {string} [doc]
     * @param {Waiting} [options]
     * @returns {Promise<Data>}
     */
    sync(doc?: string, { signal }?: Waiting): Promise<Data>;
    /**
     * How long a message takes to the gateway and back.
     * @param {Waiting} [options]
     * @returns {Promise<number>} milliseconds
     */
    ping({ signal }?: Waiting): Promise<number>;
    /**
     * Wait until the own document is exact up to `seq`, the position that a write returned; survives reconnects.
     *
     * There is no time limit: give a `signal`, like `AbortSignal.timeout(5000)`. Rejects with `EpochChanged` when the
     * gateway's database was restored meanwhile.
     * @param {number} seq
     * @param {Waiting} [options]
     * @returns {Promise<number>} the position reached
     */
    waitFor(seq: number, { signal }?: Waiting): Promise<number>;
    /**
     * Take `amount` units (1 to 2^31) of a quota, or of the pool of the organization `org`: all of them, or none.
     *
     * The request survives reconnects and restarts: it is sent with the same `key` until it is answered, and charged
     * once. What passes, `Unavailable` and `RateLimited`, is waited for within `timeoutMs`.
     *
     * Rejects with `QuotaExceeded`, `NotFound` (no such quota), `Forbidden`, `Conflict` (the key stands for another
     * request); after `timeoutMs` with `RequestTimeout`, `Disconnected`, or what passed not. With a `key` in the error it
     * may have been carried out, or may be yet: consume again with no other key than that.
     * @param {string} quota
     * @param {number} [amount]
     * @param {ConsumeOptions} [options]
     * @returns {Promise<Balance>} what is left
     */
    consume(quota: string, amount?: number, { key, org, timeoutMs, signal }?: ConsumeOptions): Promise<Balance>;
    /**
     * Hold `amount` units for work whose cost is known only afterwards.
     *
     * With a `body` the lease lasts as long as that does, and its result is returned; without, until `commit` or
     * `release`. Rejects with what `consume` rejects with.
     * @overload
     * @param {string} quota
     * @param {number} amount
     * @param {LeaseOptions} [options]
     * @returns {Promise<Lease>}
     */
    lease(quota: string, amount: number, options?: import("./lease.js").LeaseOptions | undefined): Promise<Lease>;
    /**
     * @template T
     * @overload
     * @param {string} quota
     * @param {number} amount
     * @param {LeaseOptions} options
     * @param {(lease: Lease) => T | Promise<T>} body
     * @returns {Promise<T>}
     */
    lease<T>(quota: string, amount: number, options: LeaseOptions, body: (lease: Lease) => T | Promise<T>): Promise<T>;
    /**
     * @template T
     * @overload
     * @param {string} quota
     * @param {number} amount
     * @param {(lease: Lease) => T | Promise<T>} body
     * @returns {Promise<T>}
     */
    lease<T>(quota: string, amount: number, body: (lease: Lease) => T | Promise<T>): Promise<T>;
    /** Closes at the end of the block: `await using channel = new Channel(…)`. */
    [Symbol.asyncDispose](): Promise<void>;
    /** All changes; see `changes`. */
    [Symbol.asyncIterator](): Changes;
    #private;
}
export type Data = import("./document.js").Data;
export type ChannelError = import("./errors.js").ChannelError;
export type Freshness = import("./freshness.js").Freshness;
export type LeaseOptions = import("./lease.js").LeaseOptions;
export type SessionOptions = import("./options.js").SessionOptions;
export type TokenProvider = import("./provider.js").TokenProvider;
/**
 * What a channel takes besides the options of its session.
 */
export type OwnOptions = {
    /**
     * how long opening may take, 10,000 when not given; null: for ever
     */
    openTimeoutMs?: number | null | undefined;
    /**
     * how long a goodbye may take, 1,000 when not given
     */
    closeTimeoutMs?: number | undefined;
    /**
     * the class to make sockets of, where there is no global one
     */
    WebSocket?: SocketClass | undefined;
    /**
     * for tests: other clocks, timers, chance, digests, pages
     */
    environment?: Partial<Environment> | undefined;
};
export type ChannelOptions = SessionOptions & OwnOptions;
export type ConsumeOptions = {
    /**
     * 1 to 128 characters that name this request; a new one when not given
     */
    key?: string | null | undefined;
    /**
     * an organization of the user: take from its pool
     */
    org?: string | null | undefined;
    /**
     * how long to go on asking, 30,000 when not given
     */
    timeoutMs?: number | undefined;
    /**
     * nobody waits any more; what was sent may be carried out all the same
     */
    signal?: AbortSignal | undefined;
};
/**
 * `signal`: nobody waits any more, and the call rejects with its reason.
 */
export type Waiting = {
    signal?: AbortSignal;
};
import type { Quotas } from "./quota.js";
import type { Changes } from "./listeners.js";
import type { News } from "./listeners.js";
import type { Watched } from "./events.js";
import type { Balance } from "./quota.js";
import { Lease } from "./lease.js";
import type { SocketClass } from "./environment.js";
import type { Environment } from "./environment.js";
