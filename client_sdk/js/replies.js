/** What the gateway says about documents, and about the requests for them. */

import { Kind } from "./requests.js";
import { NUDGE_MS } from "./waiters.js";
import { errorOf } from "./wire.js";

/** @import { ChannelError } from "./errors.js" */
/** @import { Effect, Watched } from "./events.js" */
/** @import { Inquiries } from "./inquiries.js" */
/** @import { ErrorMessage, Pong, Reply, ServerMessage } from "./messages.js" */
/** @import { Proof } from "./proof.js" */
/** @import { Outcome } from "./replica.js" */
/** @import { Pending } from "./requests.js" */

// Errors that say nothing of the document: asking again helps.
const PASSING = ["unavailable", "rate_limited", "internal"];

/** Reads what comes, and asks again where it is not exact. */
export class Replies {
  #inquiries;
  #effects;

  /**
   * @param {Inquiries} inquiries
   * @param {Effect[]} effects
   */
  constructor(inquiries, effects) {
    this.#inquiries = inquiries;
    this.#effects = effects;
  }

  /**
   * A message about documents or requests.
   * @param {ServerMessage} message
   * @param {Proof | null} proof of the copy that it leads to
   */
  receive(message, proof) {
    switch (message.op) {
      case "snapshot":
        this.#apply(message.doc, this.#inquiries.replica.snapshot(message, proof));
        break;
      case "update":
        this.#apply(message.doc, this.#inquiries.replica.update(message, proof));
        break;
      case "current":
        this.#apply(message.doc, this.#inquiries.replica.current(message));
        break;
      case "gone":
        this.#inquiries.forget(message.doc);
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
  }

  /**
   * @param {string} doc
   * @param {Outcome} outcome
   */
  #apply(doc, { change, sync, answered }) {
    if (change !== null) {
      this.#effects.push(change);
    }
    for (const pending of answered ? this.#inquiries.requests : []) {
      if (pending.kind === Kind.SYNC && pending.answered && pending.docs.has(doc)) {
        this.#inquiries.resolve(pending, null);
      }
    }
    if (sync) {
      this.#inquiries.suspect(doc);
    }
  }

  /** @param {Reply} message */
  #reply(message) {
    const pending = this.#inquiries.requests.get(message.id);
    if (pending === null) {
      return;
    }
    if (pending.kind === Kind.WATCH) {
      pending.answered = true;
      pending.accept(message.docs);
    } else if (pending.kind === Kind.SYNC) {
      pending.answered = true;
      for (const doc of pending.docs) {
        this.#inquiries.replica.expectAnswer(doc);
      }
    } else {
      this.#inquiries.resolve(pending, null);
    }
  }

  /** @param {ErrorMessage} message */
  #error(message) {
    const { id, code } = message;
    const error = errorOf(message);
    const pending = this.#inquiries.requests.get(id);
    const againAt = this.#inquiries.now + Math.max((message.retryAfterS ?? 0) * 1000, NUDGE_MS);
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
        this.#inquiries.forget(doc);
      }
      this.#inquiries.reject(pending, error);
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
      const doc = this.#inquiries.wishes.resolve(message.doc);
      if (PASSING.includes(message.code)) {
        const { requests, now } = this.#inquiries;
        const again = requests.add(requests.ownId(), Kind.WATCH, now, [doc], { own: true });
        again.deadline = againAt;
      } else {
        this.#inquiries.forget(doc);
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
      const doc = this.#inquiries.wishes.resolve(message.doc);
      pending.refuse(doc, error);
      this.#inquiries.forget(doc);
      return;
    }
    // The whole request is refused: what was watched before is watched still.
    for (const doc of [...pending.docs]) {
      pending.refuse(doc, error);
      if (this.#inquiries.replica.awaited([doc])) {
        this.#inquiries.forget(doc);
      }
    }
  }

  /** @param {Pong} message */
  #pong({ id, revs }) {
    for (const doc of this.#inquiries.replica.compare(revs)) {
      this.#inquiries.suspect(doc);
    }
    const missing = this.#inquiries.replica.missing(revs);
    if (missing.length > 0) {
      const watches = [...this.#inquiries.requests].filter(({ kind }) => kind === Kind.WATCH);
      const asked = new Set(watches.flatMap(({ docs }) => [...docs]));
      const lost = missing.filter((doc) => !asked.has(doc)).sort();
      this.#inquiries.replica.expectAgain(lost);
      this.#inquiries.watch(lost);
    }
    const pending = this.#inquiries.requests.get(id);
    if (pending !== null) {
      this.#inquiries.resolve(pending, this.#inquiries.now - pending.sentAt);
    }
  }

  #finishWatches() {
    for (const pending of this.#inquiries.requests) {
      const { kind, docs, accepted, refused } = pending;
      if (kind !== Kind.WATCH || docs.size > 0 || this.#inquiries.replica.awaited(accepted)) {
        continue;
      }
      if (accepted.length > 0) {
        /** @type {Watched} */
        const watched = Object.freeze({ docs: Object.freeze([...accepted]), refused });
        this.#inquiries.resolve(pending, watched);
      } else {
        this.#inquiries.reject(pending, [...refused.values()][0]);
      }
    }
  }
}
