/**
 * What is said about documents: which ones the application wants, what it holds of them, and the requests under way.
 *
 * The pure half of a `Session` that does not care how connections come and go. Times in monotonic milliseconds.
 */

import { Disconnected, EpochChanged, NotFound, RequestTimeout, TooLarge } from "./errors.js";
import { Inquiries } from "./inquiries.js";
import { Replies } from "./replies.js";
import { Kind } from "./requests.js";
import { Spending } from "./spending.js";
import { Waiters } from "./waiters.js";
import { SELF } from "./wishes.js";

/** @import { ChannelError } from "./errors.js" */
/** @import { Effect, MeasurePing, Request, SyncDocument } from "./events.js" */
/** @import { ServerMessage } from "./messages.js" */
/** @import { Proof } from "./proof.js" */
/** @import { ClientMessage } from "./wire.js" */

/** Everything that is said on a live session. Effects go into the list that it was made with. */
export class Conversation {
  #effects;
  #inquiries;
  #replies;
  #waiters = new Waiters();
  #isLive = false;
  #now = 0;
  #chance = 0;

  /**
   * @param {Iterable<string>} watch
   * @param {Effect[]} effects
   * @param {{verify: boolean, requestTimeoutMs: number}} options
   */
  constructor(watch, effects, options) {
    this.spending = new Spending(effects, (message) => this.send(message), options.requestTimeoutMs);
    this.#inquiries = new Inquiries(watch, effects, options);
    this.#replies = new Replies(this.#inquiries, effects);
    this.#effects = effects;
  }

  /** What is held. */
  get replica() {
    return this.#inquiries.replica;
  }

  /**
   * Who this is; null before it is known.
   * @returns {string | null}
   */
  get principal() {
    return this.#inquiries.wishes.principal;
  }

  /**
   * What time it is.
   * @param {number} now
   * @param {number} chance a random number in [0, 1)
   */
  at(now, chance) {
    this.#now = this.#inquiries.now = now;
    this.#chance = chance;
  }

  // --- connections come and go ---

  /**
   * The gateway said hello.
   * @param {number} maxFrameBytes how large a frame may be
   */
  greeted(maxFrameBytes) {
    this.#inquiries.maxFrameBytes = maxFrameBytes;
  }

  /**
   * What to watch at connecting; see `Wishes`.
   * @param {number} budget bytes
   * @returns {string[]}
   */
  entries(budget) {
    return this.#inquiries.wishes.entries(budget);
  }

  /**
   * The session is live.
   * @param {string} principal
   */
  begin(principal) {
    this.#isLive = true;
    const { unasked, unwanted } = this.#inquiries.wishes.begin(principal);
    for (const doc of this.#inquiries.wishes) {
      this.replica.expect(doc);
    }
    if (unwanted.length > 0) {
      this.send({ op: "unwatch", id: this.#inquiries.requests.ownId(), docs: unwanted });
    }
    this.#inquiries.watch(unasked);
    this.#waiters.begin(this.#now);
    this.spending.begin(this.#now);
  }

  /**
   * The connection is gone: requests fail, except that what is not wanted any more will not be asked for.
   * @param {ChannelError} error
   */
  lose(error) {
    this.#isLive = false;
    this.replica.disconnect();
    this.spending.lose();
    for (const { id, kind, own } of this.#inquiries.requests.clear()) {
      if (own) {
        continue;
      }
      this.#effects.push(kind === Kind.UNWATCH ? { type: "resolve", id, value: null } : { type: "reject", id, error });
    }
  }

  /**
   * No connection will come any more. After an error nothing is held either: nobody may act on it.
   * @param {ChannelError | null} error
   */
  stop(error) {
    const closed = error ?? new Disconnected("The channel is closed.", { code: "closed" });
    this.lose(closed);
    this.spending.stop(closed);
    for (const id of this.#waiters.take()) {
      this.#effects.push({ type: "reject", id, error: closed });
    }
    for (const doc of error === null ? [] : this.replica) {
      this.#inquiries.forget(doc);
    }
  }

  /** Positions in the change log begin anew: nobody can wait for an old one. */
  newEpoch() {
    for (const id of this.#waiters.take()) {
      this.#effects.push({ type: "reject", id, error: new EpochChanged("The gateway's database was restored.") });
    }
  }

  /**
   * The canonical name of a document; `self` is an alias.
   * @param {string} name
   * @returns {string}
   */
  resolve(name) {
    return this.#inquiries.wishes.resolve(name);
  }

  // --- what the application asks ---

  /**
   * Carry out a request of the application.
   * @param {Request} request
   */
  request(request) {
    switch (request.type) {
      case "watchDocuments":
        return this.#watch(request.id, request.docs);
      case "unwatchDocuments":
        return this.#unwatch(request.id, request.docs);
      case "awaitSeq":
        return this.#wait(request.id, request.seq);
      case "spend":
        return this.spending.ask(request, this.#now);
      default:
        return this.#isLive ? this.#ask(request) : this.#refuseOffline(request.id, "There is no connection.");
    }
  }

  /**
   * Nobody waits for this request any more.
   * @param {string} id
   */
  forget(id) {
    this.#inquiries.requests.remove(id);
    this.spending.forget(id, this.#now);
    this.#waiters.remove(id);
  }

  /**
   * Send a message.
   * @param {ClientMessage} message
   */
  send(message) {
    this.#inquiries.send(message);
  }

  /**
   * Ask for a sign of life.
   * @returns {string} the id of the ping
   */
  ping() {
    const id = this.ownId();
    this.send({ op: "ping", id });
    return id;
  }

  /**
   * An id for a message that is no request of the application.
   * @returns {string}
   */
  ownId() {
    return this.#inquiries.requests.ownId();
  }

  /** @param {SyncDocument | MeasurePing} request */
  #ask(request) {
    const { id } = request;
    if (request.type === "measurePing") {
      this.#inquiries.requests.add(id, Kind.PING, this.#now);
      this.send({ op: "ping", id });
    } else {
      const doc = this.resolve(request.doc);
      this.#inquiries.requests.add(id, Kind.SYNC, this.#now, [doc]);
      this.send({ op: "sync", id, doc });
    }
  }

  /**
   * @param {string} id
   * @param {string} message
   */
  #refuseOffline(id, message) {
    this.#effects.push({ type: "reject", id, error: new Disconnected(message) });
  }

  /**
   * @param {string} id
   * @param {readonly string[]} docs
   */
  #watch(id, docs) {
    const names = this.#inquiries.wishes.resolveAll(docs);
    const entries = names.map((doc) => this.#inquiries.wishes.entry(doc));
    if (!this.#inquiries.fit(entries)) {
      const error = new TooLarge("These are too many documents for one request; watch them in several.");
      this.#effects.push({ type: "reject", id, error });
      return;
    }
    this.#inquiries.wishes.add(names);
    if (!this.#isLive) {
      this.#refuseOffline(id, "There is no connection; the documents are asked for when there is one.");
      return;
    }
    for (const doc of names) {
      this.replica.expect(doc);
    }
    this.#inquiries.requests.add(id, Kind.WATCH, this.#now, names);
    this.send({ op: "watch", id, docs: entries });
  }

  /**
   * @param {string} id
   * @param {number} seq
   */
  #wait(id, seq) {
    if (!this.#inquiries.wishes.has(this.resolve(SELF))) {
      this.#effects.push({ type: "reject", id, error: new NotFound("The own document is not watched.") });
      return;
    }
    this.#waiters.add(id, seq, this.#now);
    this.#checkWaiters();
  }

  /**
   * @param {string} id
   * @param {readonly string[]} docs
   */
  #unwatch(id, docs) {
    const names = this.#inquiries.wishes.resolveAll(docs);
    for (const doc of names) {
      this.#inquiries.forget(doc);
    }
    if (this.#isLive) {
      this.#inquiries.requests.add(id, Kind.UNWATCH, this.#now, names);
      this.send({ op: "unwatch", id, docs: names });
    } else {
      this.#effects.push({ type: "resolve", id, value: null });
    }
  }

  // --- what the gateway says ---

  /**
   * A message about documents or requests.
   * @param {ServerMessage} message
   * @param {Proof | null} proof of the copy that it leads to
   */
  receive(message, proof) {
    if (message.op === "reply" && this.spending.reply(message, this.#now)) {
      return;
    }
    if (message.op === "error" && this.spending.error(message, this.#now, this.#chance)) {
      return;
    }
    this.#replies.receive(message, proof);
    this.#checkWaiters();
  }

  /**
   * What came of this document was dropped.
   * @param {string} doc
   */
  missed(doc) {
    if (this.#isLive && this.replica.has(doc)) {
      this.#inquiries.askAgain(doc);
    }
  }

  #checkWaiters() {
    const reached = this.replica.get(this.resolve(SELF))?.seq ?? 0;
    for (const id of this.#waiters.take(reached)) {
      this.#effects.push({ type: "resolve", id, value: reached });
    }
  }

  // --- time ---

  /**
   * When `tick` has something to do; infinite when it has not.
   * @returns {number}
   */
  deadline() {
    return this.#isLive ? Math.min(this.#inquiries.requests.deadline(), this.#waiters.deadline()) : Infinity;
  }

  /** Give up on requests that nobody answers, ask again for documents that are not exact, nudge for those who wait. */
  tick() {
    const { replica, requests } = this.#inquiries;
    for (const { id, own, kind, docs } of requests.overdue(this.#now)) {
      if (!own) {
        const error = new RequestTimeout("The gateway did not answer in time.");
        this.#effects.push({ type: "reject", id, error });
      } else if (kind === Kind.SYNC) {
        [...docs].filter((doc) => replica.suspected(doc)).forEach((doc) => this.#inquiries.sync(doc));
      } else {
        this.#inquiries.watch([...docs].filter((doc) => replica.awaited([doc])).sort());
      }
    }
    if (this.#waiters.deadline() <= this.#now) {
      const own = this.resolve(SELF);
      if (![...requests].some(({ kind, docs }) => kind === Kind.SYNC && docs.has(own))) {
        this.#inquiries.sync(own);
      }
      this.#waiters.nudged(this.#now);
    }
  }
}
