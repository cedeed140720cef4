/**
 * What is said about documents: which ones the application wants, what it holds of them, and the requests under way.
 *
 * The pure half of a `Session` that does not care how connections come and go. Times in monotonic milliseconds.
 */

import { Disconnected, EpochChanged, NotFound, RequestTimeout, TooLarge } from "./errors.js";
import { Replica } from "./replica.js";
import { Kind, Requests } from "./requests.js";
import { Spending } from "./spending.js";
import { NUDGE_MS, Waiters } from "./waiters.js";
import { encode, errorOf } from "./wire.js";
import { SELF, Wishes, fitting } from "./wishes.js";

/** @typedef {import("./errors.js").ChannelError} ChannelError */
/** @typedef {import("./events.js").Effect} Effect */
/** @typedef {import("./events.js").Request} Request */
/** @typedef {import("./events.js").Watched} Watched */
/** @typedef {import("./messages.js").ErrorMessage} ErrorMessage */
/** @typedef {import("./messages.js").Pong} Pong */
/** @typedef {import("./messages.js").Reply} Reply */
/** @typedef {import("./messages.js").ServerMessage} ServerMessage */
/** @typedef {import("./replica.js").Outcome} Outcome */
/** @typedef {import("./replica.js").Proof} Proof */
/** @typedef {import("./requests.js").Pending} Pending */
/** @typedef {import("./wire.js").ClientMessage} ClientMessage */

// Until the gateway's hello says how large a frame may be.
const DEFAULT_FRAME_BYTES = 16_384;
// What a message takes besides its entries.
const ENVELOPE_BYTES = 256;
// Errors that say nothing of the document: asking again helps.
const PASSING = ["unavailable", "rate_limited", "internal"];

/** Wishes, copies and requests. Effects go into the list that it was made with. */
export class Conversation {
  #effects;
  #wishes;
  #waiters = new Waiters();
  #isLive = false;

  /**
   * @param {Iterable<string>} watch
   * @param {Effect[]} effects
   * @param {{verify: boolean, requestTimeoutMs: number}} options
   */
  constructor(watch, effects, { verify, requestTimeoutMs }) {
    this.replica = new Replica({ verify });
    this.requests = new Requests(requestTimeoutMs);
    this.spending = new Spending(effects, (message) => this.send(message), requestTimeoutMs);
    this.maxFrameBytes = DEFAULT_FRAME_BYTES;
    this.now = 0;
    this.chance = 0;
    this.#wishes = new Wishes(watch, this.replica);
    this.#effects = effects;
  }

  /**
   * Who this is; null before it is known.
   * @returns {string | null}
   */
  get principal() {
    return this.#wishes.principal;
  }

  // --- connections come and go ---

  /**
   * What to watch at connecting; see `Wishes`.
   * @param {number} budget bytes
   * @returns {string[]}
   */
  entries(budget) {
    return this.#wishes.entries(budget);
  }

  /**
   * The session is live.
   * @param {string} principal
   */
  begin(principal) {
    this.#isLive = true;
    const { unasked, unwanted } = this.#wishes.begin(principal);
    for (const doc of this.#wishes) {
      this.replica.expect(doc);
    }
    if (unwanted.length > 0) {
      this.send({ op: "unwatch", id: this.requests.ownId(), docs: unwanted });
    }
    this.#askWatches(unasked);
    this.#waiters.begin(this.now);
    this.spending.begin(this.now);
  }

  /**
   * The connection is gone: requests fail, except that what is not wanted any more will not be asked for.
   * @param {ChannelError} error
   */
  lose(error) {
    this.#isLive = false;
    this.replica.disconnect();
    this.spending.lose();
    for (const { id, kind, own } of this.requests.clear()) {
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
      this.#forget(doc);
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
    return this.#wishes.resolve(name);
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
        return this.spending.ask(request, this.now);
      default:
        return this.#isLive ? this.#ask(request) : this.#refuseOffline(request.id, "There is no connection.");
    }
  }

  /**
   * Nobody waits for this request any more.
   * @param {string} id
   */
  forget(id) {
    this.requests.remove(id);
    this.spending.forget(id, this.now);
    this.#waiters.remove(id);
  }

  /**
   * Send a message.
   * @param {ClientMessage} message
   */
  send(message) {
    this.#effects.push({ type: "send", frame: encode(message) });
  }

  /** @param {import("./events.js").SyncDocument | import("./events.js").MeasurePing} request */
  #ask(request) {
    const { id } = request;
    if (request.type === "measurePing") {
      this.requests.add(id, Kind.PING, this.now);
      this.send({ op: "ping", id });
    } else {
      const doc = this.resolve(request.doc);
      this.requests.add(id, Kind.SYNC, this.now, [doc]);
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
    const names = this.#wishes.resolveAll(docs);
    const entries = names.map((doc) => this.#wishes.entry(doc));
    if (fitting(entries, this.maxFrameBytes - ENVELOPE_BYTES) < entries.length) {
      const error = new TooLarge("These are too many documents for one request; watch them in several.");
      this.#effects.push({ type: "reject", id, error });
      return;
    }
    this.#wishes.add(names);
    if (!this.#isLive) {
      this.#refuseOffline(id, "There is no connection; the documents are asked for when there is one.");
      return;
    }
    for (const doc of names) {
      this.replica.expect(doc);
    }
    this.requests.add(id, Kind.WATCH, this.now, names);
    this.send({ op: "watch", id, docs: entries });
  }

  /**
   * Ask for documents without anybody waiting, in as many messages as it takes.
   * @param {string[]} docs
   */
  #askWatches(docs) {
    for (let rest = docs; rest.length > 0; ) {
      const entries = rest.map((doc) => this.#wishes.entry(doc));
      const taken = Math.max(1, fitting(entries, this.maxFrameBytes - ENVELOPE_BYTES));
      const id = this.requests.ownId();
      this.requests.add(id, Kind.WATCH, this.now, rest.slice(0, taken), { own: true });
      this.send({ op: "watch", id, docs: entries.slice(0, taken) });
      rest = rest.slice(taken);
    }
  }

  /**
   * @param {string} id
   * @param {number} seq
   */
  #wait(id, seq) {
    if (!this.#wishes.has(this.resolve(SELF))) {
      this.#effects.push({ type: "reject", id, error: new NotFound("The own document is not watched.") });
      return;
    }
    this.#waiters.add(id, seq, this.now);
    this.#checkWaiters();
  }

  /**
   * @param {string} id
   * @param {readonly string[]} docs
   */
  #unwatch(id, docs) {
    const names = this.#wishes.resolveAll(docs);
    for (const doc of names) {
      this.#forget(doc);
    }
    if (this.#isLive) {
      this.requests.add(id, Kind.UNWATCH, this.now, names);
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
    switch (message.op) {
      case "snapshot":
        this.#apply(message.doc, this.replica.snapshot(message, proof));
        break;
      case "update":
        this.#apply(message.doc, this.replica.update(message, proof));
        break;
      case "current":
        this.#apply(message.doc, this.replica.current(message));
        break;
      case "gone":
        this.#forget(message.doc);
        break;
      case "reply":
        this.#reply(message);
        break;
      case "error":
        this.#error(message);
        break;
      case "pong":
        this.#pong(message);
        break;
      default:
        return;
    }
    this.#finishWatches();
    this.#checkWaiters();
  }

  /**
   * @param {string} doc
   * @param {Outcome} outcome
   */
  #apply(doc, { change, sync, answered }) {
    if (change !== null) {
      this.#effects.push(change);
    }
    for (const pending of answered ? this.requests : []) {
      if (pending.kind === Kind.SYNC && pending.answered && pending.docs.has(doc)) {
        this.#resolve(pending, null);
      }
    }
    if (sync) {
      this.#sync(doc);
    }
  }

  /** @param {string} doc */
  #sync(doc) {
    if (this.replica.suspect(doc)) {
      this.#sendSync(doc);
    }
  }

  /** @param {string} doc */
  #sendSync(doc) {
    const id = this.requests.ownId();
    this.requests.add(id, Kind.SYNC, this.now, [doc], { own: true });
    this.send({ op: "sync", id, doc });
  }

  /** @param {Reply} message */
  #reply(message) {
    const pending = this.spending.reply(message, this.now) ? null : this.requests.get(message.id);
    if (pending === null) {
      return;
    }
    if (pending.kind === Kind.WATCH) {
      pending.answered = true;
      pending.accept(message.docs);
    } else if (pending.kind === Kind.SYNC) {
      pending.answered = true;
      for (const doc of pending.docs) {
        this.replica.expectAnswer(doc);
      }
    } else {
      this.#resolve(pending, null);
    }
  }

  /** @param {ErrorMessage} message */
  #error(message) {
    if (this.spending.error(message, this.now, this.chance)) {
      return;
    }
    const { id, code } = message;
    const error = errorOf(message);
    const pending = this.requests.get(id);
    const againAt = this.now + Math.max((message.retryAfterS ?? 0) * 1000, NUDGE_MS);
    if (pending === null && id !== null) {
      return; // nobody waits for it any more
    }
    if (pending === null) {
      this.#errorAtConnecting(message, error, againAt);
    } else if (pending.own && PASSING.includes(code)) {
      pending.deadline = againAt;
    } else if (pending.kind === Kind.WATCH) {
      this.#refuse(pending, message, error);
    } else {
      for (const doc of pending.kind === Kind.SYNC && code === "not_found" ? pending.docs : []) {
        this.#forget(doc);
      }
      this.#reject(pending, error);
    }
  }

  /**
   * Documents that are named at connecting are refused without an id.
   * @param {ErrorMessage} message
   * @param {ChannelError} error
   * @param {number} againAt
   */
  #errorAtConnecting(message, error, againAt) {
    if (message.doc !== null) {
      const doc = this.resolve(message.doc);
      if (PASSING.includes(message.code)) {
        const again = this.requests.add(this.requests.ownId(), Kind.WATCH, this.now, [doc], { own: true });
        again.deadline = againAt;
      } else {
        this.#forget(doc);
      }
    }
    this.#effects.push({ type: "trouble", error });
  }

  /**
   * @param {Pending} pending
   * @param {ErrorMessage} message
   * @param {ChannelError} error
   */
  #refuse(pending, message, error) {
    if (message.doc !== null) {
      const doc = this.resolve(message.doc);
      pending.refuse(doc, error);
      this.#forget(doc);
      return;
    }
    // The whole request is refused: what was watched before is watched still.
    for (const doc of [...pending.docs]) {
      pending.refuse(doc, error);
      if (this.replica.awaited([doc])) {
        this.#forget(doc);
      }
    }
  }

  /** @param {Pong} message */
  #pong({ id, revs }) {
    for (const doc of this.replica.compare(revs)) {
      this.#sync(doc);
    }
    const missing = this.replica.missing(revs);
    if (missing.length > 0) {
      const watches = [...this.requests].filter(({ kind }) => kind === Kind.WATCH);
      const asked = new Set(watches.flatMap(({ docs }) => [...docs]));
      this.#askWatches(missing.filter((doc) => !asked.has(doc)).sort());
    }
    const pending = this.requests.get(id);
    if (pending !== null) {
      this.#resolve(pending, this.now - pending.sentAt);
    }
  }

  /** @param {string} doc */
  #forget(doc) {
    this.#wishes.remove(doc);
    const change = this.replica.forget(doc);
    if (change !== null) {
      this.#effects.push(change);
    }
  }

  #finishWatches() {
    for (const pending of this.requests) {
      const { kind, docs, accepted, refused } = pending;
      if (kind !== Kind.WATCH || docs.size > 0 || this.replica.awaited(accepted)) {
        continue;
      }
      if (accepted.length > 0) {
        /** @type {Watched} */
        const watched = Object.freeze({ docs: Object.freeze([...accepted]), refused });
        this.#resolve(pending, watched);
      } else {
        this.#reject(pending, [...refused.values()][0]);
      }
    }
  }

  #checkWaiters() {
    const reached = this.replica.get(this.resolve(SELF))?.seq ?? 0;
    for (const id of this.#waiters.take(reached)) {
      this.#effects.push({ type: "resolve", id, value: reached });
    }
  }

  /**
   * @param {Pending} pending
   * @param {unknown} value
   */
  #resolve({ id, own }, value) {
    this.requests.remove(id);
    if (!own) {
      this.#effects.push({ type: "resolve", id, value });
    }
  }

  /**
   * @param {Pending} pending
   * @param {ChannelError} error
   */
  #reject({ id, own }, error) {
    this.requests.remove(id);
    this.#effects.push(own ? { type: "trouble", error } : { type: "reject", id, error });
  }

  // --- time ---

  /**
   * When `tick` has something to do; infinite when it has not.
   * @returns {number}
   */
  deadline() {
    return this.#isLive ? Math.min(this.requests.deadline(), this.#waiters.deadline()) : Infinity;
  }

  /**
   * Give up on requests that nobody answers, ask again for documents that are not exact, nudge for those who wait.
   */
  tick() {
    for (const { id, own, kind, docs } of this.requests.overdue(this.now)) {
      if (!own) {
        const error = new RequestTimeout("The gateway did not answer in time.");
        this.#effects.push({ type: "reject", id, error });
      } else if (kind === Kind.SYNC) {
        [...docs].filter((doc) => this.replica.suspected(doc)).forEach((doc) => this.#sendSync(doc));
      } else {
        this.#askWatches([...docs].filter((doc) => this.replica.awaited([doc])).sort());
      }
    }
    if (this.#waiters.nudge(this.now)) {
      this.#sendSync(this.resolve(SELF));
    }
  }
}
