/** The documents that a client holds: exact copies, or known not to be. */

import { apply } from "./document.js";
import { NOTHING, change } from "./events.js";
import { Held, Standing, fits, isNext, replace } from "./held.js";
import { beginsWith, chain, isRight, joined, proves, whole } from "./proof.js";

/** @import { Data } from "./document.js" */
/** @import { Change } from "./events.js" */
/** @import { Current, ServerMessage, Snapshot, Update } from "./messages.js" */
/** @import { Candidate, Proof } from "./proof.js" */

/**
 * @typedef {object} Outcome What a message about a document led to.
 * @property {Change | null} change for the application
 * @property {boolean} sync whether to ask for the document whole
 * @property {boolean} answered whether this was the snapshot that a sync asked for
 */

/** @type {Outcome} */
const IGNORED = Object.freeze({ change: null, sync: false, answered: false });
/** @type {Outcome} */
const SYNC = Object.freeze({ change: null, sync: true, answered: false });

/**
 * All documents that are watched, by their canonical names.
 *
 * On one connection a document never goes back in the change log, except by the answer to a sync: then the gateway's
 * database is an older one. Every copy is verified by its revision, unless `verify` is off; `mismatches` counts what
 * was not what it said to be.
 */
export class Replica {
  /** @type {Map<string, Held>} */
  #held = new Map();
  /** @type {Set<string>} */
  #unsure = new Set(); // those not known to be exact
  #verify;

  /** @param {{verify?: boolean}} [options] */
  constructor({ verify = true } = {}) {
    this.#verify = verify;
    /** How many copies were not what their revision said. */
    this.mismatches = 0;
  }

  /**
   * Whether a document is watched.
   * @param {string} doc
   * @returns {boolean}
   */
  has(doc) {
    return this.#held.has(doc);
  }

  /** The names of those that are watched. */
  [Symbol.iterator]() {
    return [...this.#held.keys()].values();
  }

  /**
   * The document if it is watched.
   * @param {string} doc
   * @returns {Held | null}
   */
  get(doc) {
    return this.#held.get(doc) ?? null;
  }

  /**
   * Every document that is held, by its name.
   * @returns {Readonly<Record<string, Data>>}
   */
  documents() {
    return Object.freeze(Object.fromEntries(this.changes().map(({ doc, data }) => [doc, data])));
  }

  /**
   * Every document that is held, as the change from nothing to it.
   * @returns {Change[]}
   */
  changes() {
    return [...this.#held].flatMap(([doc, { rev, seq, data }]) =>
      rev === null ? [] : [change({ doc, kind: "snapshot", before: NOTHING, data, rev, seq, causes: [] })],
    );
  }

  /**
   * Why not every watched document is known to be a true copy; null when each is.
   * @returns {"document" | "unverified" | null}
   */
  amiss() {
    if (this.#unsure.size === 0) {
      return null;
    }
    const held = [...this.#unsure].map((doc) => this.#held.get(doc));
    return held.every((one) => one?.standing === Standing.EXACT && !one.stale) ? "unverified" : "document";
  }

  /**
   * Whether one of these documents (null: of all) did not come yet on this connection.
   * @param {Iterable<string> | null} [docs]
   * @returns {boolean}
   */
  awaited(docs = null) {
    for (const doc of docs ?? this.#unsure) {
      if (this.#held.get(doc)?.standing === Standing.AWAITED) {
        return true;
      }
    }
    return false;
  }

  /**
   * The documents that the gateway did not send on this connection, or of which its `gone` was lost.
   * @param {ReadonlyMap<string, string>} revs
   * @returns {string[]}
   */
  missing(revs) {
    return [...this].filter((doc) => !revs.has(doc) && !this.suspected(doc));
  }

  /**
   * These documents are to come once more; until then nobody knows how they are.
   * @param {Iterable<string>} docs
   */
  expectAgain(docs) {
    for (const doc of docs) {
      const held = this.#held.get(doc);
      if (held !== undefined) {
        held.standing = Standing.AWAITED;
        this.#unsure.add(doc);
      }
    }
  }

  /**
   * Watch a document; what is held already stays.
   * @param {string} doc
   */
  expect(doc) {
    if (!this.#held.has(doc)) {
      this.#held.set(doc, new Held());
      this.#unsure.add(doc);
    }
  }

  /**
   * Watch a document no longer.
   * @param {string} doc
   * @returns {Change | null}
   */
  forget(doc) {
    const held = this.#held.get(doc);
    this.#held.delete(doc);
    this.#unsure.delete(doc);
    if (held === undefined || held.rev === null) {
      return null;
    }
    return change({ doc, kind: "gone", before: held.data, data: NOTHING, rev: held.rev, seq: held.seq, causes: [] });
  }

  /** The connection is gone: nothing is known to be exact any more, but everything is kept. */
  disconnect() {
    for (const [doc, held] of this.#held) {
      held.standing = Standing.AWAITED;
      held.stale = false;
      held.answers = 0;
      this.#unsure.add(doc);
    }
  }

  /**
   * The gateway says that it can not, or can again, know how this document is.
   * @param {string} doc
   * @param {boolean} isStale
   */
  markStale(doc, isStale) {
    const held = this.#held.get(doc);
    if (held !== undefined) {
      held.stale = isStale;
      this.#judge(doc, held);
    }
  }

  /**
   * Mark a document as perhaps not exact; false when it is marked already, or not watched.
   * @param {string} doc
   * @returns {boolean}
   */
  suspect(doc) {
    const held = this.#held.get(doc);
    if (held === undefined || held.standing === Standing.SUSPECT) {
      return false;
    }
    held.standing = Standing.SUSPECT;
    this.#unsure.add(doc);
    return true;
  }

  /**
   * Whether a document is perhaps not exact.
   * @param {string} doc
   * @returns {boolean}
   */
  suspected(doc) {
    return this.#held.get(doc)?.standing === Standing.SUSPECT;
  }

  /**
   * The reply to a sync came: the next snapshot is what it asked for.
   * @param {string} doc
   */
  expectAnswer(doc) {
    const held = this.#held.get(doc);
    if (held !== undefined) {
      held.answers += 1;
    }
  }

  /**
   * The copy that this message leads to, if it has to be proved and `proof` does not.
   * @param {ServerMessage} message
   * @param {Proof | null} proof
   * @param {Iterable<ServerMessage>} following what came after it, to be proved with it as far as it can
   * @returns {Candidate | null}
   */
  candidate(message, proof, following) {
    if (!this.#verify || (message.op !== "snapshot" && message.op !== "update")) {
      return null;
    }
    const held = this.#held.get(message.doc);
    if (held === undefined || !(message.op === "snapshot" ? isNext(held, message) : fits(held, message))) {
      return null;
    }
    if (beginsWith(proof, message, message.op === "snapshot" ? null : held.data)) {
      return null;
    }
    return message.op === "snapshot" ? whole(message) : chain(message, held.data, following);
  }

  /**
   * A whole document replaces what is held.
   *
   * One that is not what its revision says is asked for once more; if the answer is no better, it is the best there is,
   * and unverified.
   * @param {Snapshot} message
   * @param {Proof | null} proof
   * @returns {Outcome}
   */
  snapshot(message, proof) {
    const held = this.#held.get(message.doc);
    if (held === undefined) {
      return IGNORED;
    }
    const answered = held.answers > 0;
    if (!isNext(held, message)) {
      return SYNC;
    }
    const verified = this.#isTrue(message, null, proof);
    if (!verified && !answered) {
      return SYNC;
    }
    this.#take(message.doc, held, { verified, answered });
    if (answered) {
      held.answers = 0;
    }
    return { change: replace(held, message, message.data), sync: false, answered };
  }

  /**
   * A patch applies if and only if it starts from the revision held and leads to the one it names. The proof may be of
   * several that follow each other: then `message` is the last of them.
   * @param {Update} message
   * @param {Proof | null} proof
   * @returns {Outcome}
   */
  update(message, proof) {
    const held = this.#held.get(message.doc);
    if (held === undefined) {
      return IGNORED;
    }
    const update = joined(proof, message, held.data);
    if (!fits(held, update) || !this.#isTrue(message, held.data, proof)) {
      return SYNC;
    }
    const isProved = proof !== null && proves(proof, message, held.data);
    const data = isProved ? proof.candidate.data : apply(held.data, message.patch);
    this.#take(message.doc, held, { verified: true, answered: false });
    return { change: replace(held, update, data), sync: false, answered: false };
  }

  /**
   * The revision that was named at connecting still counts.
   * @param {Current} message
   * @returns {Outcome}
   */
  current(message) {
    const held = this.#held.get(message.doc);
    if (held === undefined) {
      return IGNORED;
    }
    if (held.rev !== message.rev) {
      return SYNC;
    }
    held.seq = held.standing === Standing.AWAITED ? message.seq : Math.max(held.seq, message.seq);
    if (held.standing === Standing.AWAITED) {
      this.#confirm(message.doc, held);
    }
    return IGNORED;
  }

  /**
   * The documents of which the gateway sent another revision last than is held; those that agree are exact.
   * @param {ReadonlyMap<string, string>} revs
   * @returns {string[]}
   */
  compare(revs) {
    const divergent = [];
    for (const [doc, rev] of revs) {
      const held = this.#held.get(doc);
      if (held === undefined) {
        continue;
      }
      if (held.rev !== rev) {
        divergent.push(doc);
      } else if (held.standing === Standing.AWAITED) {
        this.#confirm(doc, held);
      }
    }
    return divergent;
  }

  /**
   * A copy came.
   * @param {string} doc
   * @param {Held} held
   * @param {{verified: boolean, answered: boolean}} how
   */
  #take(doc, held, { verified, answered }) {
    held.verified = verified;
    if (answered || held.standing === Standing.AWAITED) {
      held.standing = Standing.EXACT;
    }
    this.#judge(doc, held);
  }

  /**
   * @param {string} doc
   * @param {Held} held
   */
  #confirm(doc, held) {
    held.standing = Standing.EXACT;
    this.#judge(doc, held);
  }

  /**
   * @param {string} doc
   * @param {Held} held
   */
  #judge(doc, held) {
    if (held.standing === Standing.EXACT && !held.stale && held.verified) {
      this.#unsure.delete(doc);
    } else {
      this.#unsure.add(doc);
    }
  }

  /**
   * @param {Snapshot | Update} message
   * @param {Data | null} base
   * @param {Proof | null} proof
   */
  #isTrue(message, base, proof) {
    if (!this.#verify || (proof !== null && proves(proof, message, base) && isRight(proof))) {
      return true;
    }
    this.mismatches += 1;
    return false;
  }
}
