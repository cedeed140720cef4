/** What a session asks by itself, and what all that is said about documents needs. */

import { Replica } from "./replica.js";
import { Kind, Requests } from "./requests.js";
import { encode } from "./wire.js";
import { Wishes, fitting } from "./wishes.js";

/** @import { ChannelError } from "./errors.js" */
/** @import { Effect } from "./events.js" */
/** @import { Pending } from "./requests.js" */
/** @import { ClientMessage } from "./wire.js" */

// Until the gateway's hello says how large a frame may be.
const DEFAULT_FRAME_BYTES = 16_384;
// What a message takes besides its entries.
const ENVELOPE_BYTES = 256;

/** Wishes, copies and the requests about them. Effects go into the list that it was made with. */
export class Inquiries {
  #effects;

  /**
   * @param {Iterable<string>} watch
   * @param {Effect[]} effects
   * @param {{verify: boolean, requestTimeoutMs: number}} options
   */
  constructor(watch, effects, { verify, requestTimeoutMs }) {
    this.replica = new Replica({ verify });
    this.requests = new Requests(requestTimeoutMs);
    this.wishes = new Wishes(watch, this.replica);
    this.maxFrameBytes = DEFAULT_FRAME_BYTES;
    /** Monotonic milliseconds. */
    this.now = 0;
    this.#effects = effects;
  }

  /**
   * Send a message.
   * @param {ClientMessage} message
   */
  send(message) {
    this.#effects.push({ type: "send", frame: encode(message) });
  }

  /**
   * Whether one message can hold all of these entries.
   * @param {readonly string[]} entries
   * @returns {boolean}
   */
  fit(entries) {
    return this.#taken(entries) === entries.length;
  }

  /**
   * Ask for documents without anybody waiting, in as many messages as it takes.
   * @param {string[]} docs
   */
  watch(docs) {
    for (let rest = docs; rest.length > 0;) {
      const entries = rest.map((doc) => this.wishes.entry(doc));
      const taken = Math.max(1, this.#taken(entries));
      const id = this.requests.ownId();
      this.requests.add(id, Kind.WATCH, this.now, rest.slice(0, taken), { own: true });
      this.send({ op: "watch", id, docs: entries.slice(0, taken) });
      rest = rest.slice(taken);
    }
  }

  /**
   * Ask for a document whole, unless that is under way.
   * @param {string} doc
   */
  suspect(doc) {
    if (this.replica.suspect(doc)) {
      this.sync(doc);
    }
  }

  /**
   * Ask for a document whole even if that is under way: the answer may be lost.
   * @param {string} doc
   */
  askAgain(doc) {
    if (!this.replica.awaited([doc])) {
      this.replica.suspect(doc);
    }
    this.sync(doc);
  }

  /**
   * Ask for a document whole.
   * @param {string} doc
   */
  sync(doc) {
    const id = this.requests.ownId();
    this.requests.add(id, Kind.SYNC, this.now, [doc], { own: true });
    this.send({ op: "sync", id, doc });
  }

  /**
   * A document is watched no longer.
   * @param {string} doc
   */
  forget(doc) {
    this.wishes.remove(doc);
    const change = this.replica.forget(doc);
    if (change !== null) {
      this.#effects.push(change);
    }
  }

  /**
   * A request succeeded.
   * @param {Pending} pending
   * @param {unknown} value
   */
  resolve({ id, own }, value) {
    this.requests.remove(id);
    if (!own) {
      this.#effects.push({ type: "resolve", id, value });
    }
  }

  /**
   * A request failed.
   * @param {Pending} pending
   * @param {ChannelError} error
   */
  reject({ id, own }, error) {
    this.requests.remove(id);
    this.#effects.push(own ? { type: "trouble", error } : { type: "reject", id, error });
  }

  /** @param {readonly string[]} entries */
  #taken(entries) {
    return fitting(entries, this.maxFrameBytes - ENVELOPE_BYTES);
  }
}
