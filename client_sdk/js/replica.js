/** The documents that a client holds: exact copies, or known not to be. */

import { apply, canonical } from "./document.js";
import { NOTHING, change } from "./events.js";
import { Held, Standing, fits, isNext, replace } from "./held.js";

/** @import { Data } from "./document.js" */
/** @import { Change } from "./events.js" */
/** @import { Current, ServerMessage, Snapshot, Update } from "./messages.js" */

/**
 * @typedef {object} Candidate A copy that has to be proved.
 * @property {Snapshot | Update} message where it comes from
 * @property {Data | null} base what was held when it was made; null for a whole document
 * @property {Data} data the copy
 * @property {string} text its canonical JSON: the SHA-256 of that is to be computed
 */

/** @typedef {{candidate: Candidate, rev: string}} Proof The revision of a candidate, computed. */

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
   * Whether every watched document is an exact copy, and none of them is known to be old.
   * @returns {boolean}
   */
  exact() {
    return this.#unsure.size === 0;
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
   * The documents that did not come yet on this connection, and that the gateway did not send either.
   * @param {ReadonlyMap<string, string>} revs
   * @returns {string[]}
   */
  missing(revs) {
    return [...this.#unsure].filter((doc) => !revs.has(doc) && this.awaited([doc]));
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
   * @returns {Candidate | null}
   */
  candidate(message, proof) {
    const isWhole = message.op === "snapshot";
    if (!isWhole && message.op !== "update") {
      return null;
    }
    const held = this.#held.get(message.doc);
    if (!this.#verify || held === undefined || !(isWhole ? isNext(held, message) : fits(held, message))) {
      return null;
    }
    const base = isWhole ? null : held.data;
    if (proves(proof, message, base)) {
      return null;
    }
    const data = isWhole ? message.data : apply(held.data, message.patch);
    return { message, base, data, text: canonical(data) };
  }

  /**
   * A whole document replaces what is held.
   *
   * One that is not what its revision says is asked for once more; if the answer is no better, it is the best there is.
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
    if (!isNext(held, message) || (!this.#isTrue(message, null, proof) && !answered)) {
      return SYNC;
    }
    if (answered || held.standing === Standing.AWAITED) {
      this.#confirm(message.doc, held);
    }
    if (answered) {
      held.answers = 0;
    }
    return { change: replace(held, message, message.data), sync: false, answered };
  }

  /**
   * A patch applies if and only if it starts from the revision held and leads to the one it names.
   * @param {Update} message
   * @param {Proof | null} proof
   * @returns {Outcome}
   */
  update(message, proof) {
    const held = this.#held.get(message.doc);
    if (held === undefined) {
      return IGNORED;
    }
    if (!fits(held, message) || !this.#isTrue(message, held.data, proof)) {
      return SYNC;
    }
    const data = this.#verify && proof !== null ? proof.candidate.data : apply(held.data, message.patch);
    if (held.standing === Standing.AWAITED) {
      this.#confirm(message.doc, held);
    }
    return { change: replace(held, message, data), sync: false, answered: false };
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
    if (held.standing === Standing.EXACT && !held.stale) {
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
    if (!this.#verify || (proves(proof, message, base) && proof?.rev === message.rev)) {
      return true;
    }
    this.mismatches += 1;
    return false;
  }
}

/**
 * Whether a proof is of the copy that this message leads to.
 * @param {Proof | null} proof
 * @param {Snapshot | Update} message
 * @param {Data | null} base what is held now; null for a whole document
 */
function proves(proof, message, base) {
  return proof !== null && proof.candidate.message === message && proof.candidate.base === base;
}
