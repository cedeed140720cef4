/** A live channel to the gateway: documents that stay true, whatever happens to the connection. */

import { channelUrl } from "./address.js";
import { NONE, sameOr } from "./document.js";
import { asyncDispose } from "./dispose.js";
import { drives } from "./driven.js";
import { makeEnvironment } from "./environment.js";
import { NOTHING } from "./events.js";
import { checkedAmount, checkedKey, checkedMs, checkedName } from "./keys.js";
import { Lease, during } from "./lease.js";
import { Listeners } from "./listeners.js";
import { documentNames } from "./names.js";
import { opened } from "./opening.js";
import { makeOptions } from "./options.js";
import { usable } from "./provider.js";
import { balanceOf, isGranted, permissionsOf, quotasOf } from "./quota.js";
import { Runner } from "./runner.js";
import { Session } from "./session.js";
import { SUBPROTOCOL } from "./wire.js";

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
  #session;
  #listeners;
  #runner;
  #openTimeoutMs;
  /** @type {Readonly<Record<string, Data>>} */
  #documents = NONE;

  /**
   * @param {string | URL | null} server an `http(s)` or `ws(s)` URL; null: the page's own origin
   * @param {string | TokenProvider} token a token, or a function that is asked for one before every connection and when
   *   the token is about to end
   * @param {ChannelOptions} [options]
   * @throws {TypeError} an argument can not be used, or there is no WebSocket here
   */
  constructor(server, token, options = {}) {
    const { openTimeoutMs = 10_000, closeTimeoutMs = 1_000, WebSocket, environment, ...ofSession } = options;
    const world = makeEnvironment(WebSocket === undefined ? environment : { ...environment, WebSocket });
    if (typeof world.WebSocket !== "function") {
      throw new TypeError(
        "there is no WebSocket here: use Node 22, or Node 20 with --experimental-websocket, or the option WebSocket",
      );
    }
    const endpoint = {
      url: channelUrl(server ?? null, world.origin),
      subprotocol: SUBPROTOCOL,
      closeTimeoutMs: checkedMs("closeTimeoutMs", closeTimeoutMs),
    };
    this.#openTimeoutMs = openTimeoutMs === null ? Infinity : checkedMs("openTimeoutMs", openTimeoutMs);
    const checked = makeOptions(ofSession);
    this.#session = new Session({ ...checked, verify: checked.verify && world.subtle !== null });
    this.#listeners = new Listeners(world.report);
    this.#runner = new Runner(this.#session, endpoint, usable(token), this.#listeners, world);
    drives(this, this.#runner);
  }

  // --- opening and closing ---

  /**
   * Connect, and wait until every watched document is there.
   * @returns {Promise<void>}
   */
  open() {
    return opened(this.#runner, this.#openTimeoutMs);
  }

  /**
   * Close the channel for good, also before it was opened. Requests under way fail, iterations end; what was held can
   * still be read.
   * @returns {Promise<void>} done when the gateway has said goodbye, or took longer than `closeTimeoutMs`
   */
  close() {
    return this.#runner.stop();
  }

  /** Closes at the end of the block: `await using channel = new Channel(…)`. */
  [asyncDispose]() {
    return this.close();
  }

  // --- what is held ---

  /**
   * The own document; empty before it came, or when it is not watched. Treat it as immutable.
   * @returns {Data}
   */
  get document() {
    return this.#session.own?.data ?? NOTHING;
  }

  /**
   * Every document that is held, by its canonical name; the same object until one changes. Treat them as immutable.
   * @returns {Readonly<Record<string, Data | undefined>>}
   */
  get documents() {
    return (this.#documents = sameOr(this.#documents, this.#session.replica.documents()));
  }

  /** What the user may do. */
  get permissions() {
    return permissionsOf(this.document);
  }

  /**
   * Whether the user has this permission, as far as is known: see `freshness`.
   * @param {string} permission
   * @returns {boolean}
   */
  can(permission) {
    return isGranted(this.document, permission);
  }

  /**
   * The user's quotas by name.
   * @returns {Quotas}
   */
  get quotas() {
    return quotasOf(this.document);
  }

  /**
   * The position in the change log up to which the own document is exact; 0 before it came.
   * @returns {number}
   */
  get seq() {
    return this.#session.own?.seq ?? 0;
  }

  /**
   * How true everything is: `live`, `stale` or `offline`, and how old it may be.
   * @returns {Freshness}
   */
  get freshness() {
    return this.#session.freshness(this.#runner.now());
  }

  /**
   * Who this is, `user:ID` or `instance:ID`; null before the first session.
   * @returns {string | null}
   */
  get principal() {
    return this.#session.principal;
  }

  /**
   * The gateway's name of the present session, or of the last one.
   * @returns {string | null}
   */
  get sessionId() {
    return this.#session.id;
  }

  /**
   * When the credential ends (RFC 3339, UTC); null when it does not, or before the first session.
   * @returns {string | null}
   */
  get expiresAt() {
    return this.#session.expiresAt;
  }

  /**
   * What went wrong last, although the channel may have got over it.
   * @returns {ChannelError | null}
   */
  get trouble() {
    return this.#runner.trouble;
  }

  /**
   * How many copies were not what their revision said; each was asked for again.
   * @returns {number}
   */
  get mismatches() {
    return this.#session.replica.mismatches;
  }

  /**
   * Whether every copy is checked against its revision: only secure contexts (https, localhost, Node) have digests.
   * @returns {boolean}
   */
  get verified() {
    return this.#session.options.verify;
  }

  // --- what happens ---

  /** All changes; see `changes`. */
  [Symbol.asyncIterator]() {
    return this.changes();
  }

  /**
   * Iterate over changes: first one for every document that is held now, then each that comes.
   *
   * A reader that is slow gets fewer, larger changes. The iteration ends when the channel is closed, and throws what
   * stopped it for good.
   * @returns {Changes}
   */
  changes() {
    return this.#listeners.read(this.#session.replica.changes());
  }

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
  on(kind, callback, { doc = null } = {}) {
    if (doc === null) {
      return this.#listeners.on(kind, callback);
    }
    if (kind !== "change") {
      throw new TypeError("only changes are of a document");
    }
    return this.#listeners.on(kind, (news) => {
      const { doc: changed } = /** @type {Change} */ (news);
      return changed === this.#session.resolve(doc) ? callback(news) : undefined;
    });
  }

  // --- requests ---

  /**
   * Watch documents from now on, and wait until they are there.
   *
   * Those that were refused stand in the result with the reason; when all were, it rejects with that error. Without a
   * connection it rejects with `Disconnected`, and they are asked for with the next one, unless they are unwatched.
   * @param {string | Iterable<string>} docs
   * @param {Waiting} [options]
   * @returns {Promise<Watched>}
   */
  async watch(docs, { signal } = {}) {
    const names = documentNames(docs);
    return this.#runner.request((id) => ({ type: "watchDocuments", id, docs: names }), signal);
  }

  /**
   * Stop watching documents; what is held of them is dropped.
   * @param {string | Iterable<string>} docs
   * @returns {Promise<void>}
   */
  async unwatch(docs) {
    const names = documentNames(docs);
    await this.#runner.request((id) => ({ type: "unwatchDocuments", id, docs: names }));
  }

  /**
   * Have a document sent whole again. Rejects with `NotFound` for one that is not watched.
   * @param {string} [doc]
   * @param {Waiting} [options]
   * @returns {Promise<Data>}
   */
  async sync(doc = "self", { signal } = {}) {
    const [name] = documentNames(doc);
    await this.#runner.request((id) => ({ type: "syncDocument", id, doc: name }), signal);
    return this.documents[this.#session.resolve(doc)] ?? NOTHING;
  }

  /**
   * How long a message takes to the gateway and back.
   * @param {Waiting} [options]
   * @returns {Promise<number>} milliseconds
   */
  ping({ signal } = {}) {
    return this.#runner.request((id) => ({ type: "measurePing", id }), signal);
  }

  /**
   * Wait until the own document is exact up to `seq`, the position that a write returned; survives reconnects.
   *
   * There is no time limit: give a `signal`, like `AbortSignal.timeout(5000)`. Rejects with `EpochChanged` when the
   * gateway's database was restored meanwhile.
   * @param {number} seq
   * @param {Waiting} [options]
   * @returns {Promise<number>} the position reached
   */
  async waitFor(seq, { signal } = {}) {
    if (!Number.isSafeInteger(seq)) {
      throw new TypeError("a position in the change log is an integer");
    }
    return this.#runner.request((id) => ({ type: "awaitSeq", id, seq }), signal);
  }

  // --- spending ---

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
  async consume(quota, amount = 1, { key = null, org = null, timeoutMs = 30_000, signal } = {}) {
    const boundMs = checkedMs("timeoutMs", timeoutMs);
    const message = {
      op: /** @type {const} */ ("consume"),
      quota: checkedName("a quota", quota),
      amount: checkedAmount(amount),
      key: checkedKey(key),
      ...(org === null ? {} : { org: checkedName("an organization", org) }),
    };
    return balanceOf(await this.#runner.spend((id) => ({ ...message, id }), boundMs, signal));
  }

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
  /**
   * @template T
   * @overload
   * @param {string} quota
   * @param {number} amount
   * @param {LeaseOptions} options
   * @param {(lease: Lease) => T | Promise<T>} body
   * @returns {Promise<T>}
   */
  /**
   * @template T
   * @overload
   * @param {string} quota
   * @param {number} amount
   * @param {(lease: Lease) => T | Promise<T>} body
   * @returns {Promise<T>}
   */
  /**
   * @param {string} quota
   * @param {number} amount
   * @param {LeaseOptions | ((lease: Lease) => unknown)} [given]
   * @param {(lease: Lease) => unknown} [last]
   * @returns {Promise<unknown>}
   */
  async lease(quota, amount, given = {}, last = undefined) {
    const [options, body] = typeof given === "function" ? [{}, given] : [given, last];
    const lease = await new Lease(this.#runner, quota, amount, options).begin();
    return body === undefined ? lease : during(lease, body, this.#runner.environment.report);
  }
}
