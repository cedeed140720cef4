/** Requests that wait for an answer. */

/** @typedef {import("./errors.js").ChannelError} ChannelError */

/**
 * What was asked.
 * @enum {string}
 */
export const Kind = Object.freeze({ WATCH: "watch", UNWATCH: "unwatch", SYNC: "sync", PING: "ping" });

/** One request under way. */
export class Pending {
  /**
   * @param {string} id
   * @param {Kind} kind
   * @param {number} sentAt monotonic milliseconds
   * @param {number} deadline monotonic milliseconds
   * @param {boolean} own the session asked by itself, nobody waits for it
   * @param {Iterable<string>} docs what it is about and not answered yet
   */
  constructor(id, kind, sentAt, deadline, own, docs) {
    this.id = id;
    this.kind = kind;
    this.sentAt = sentAt;
    this.deadline = deadline;
    this.own = own;
    this.docs = new Set(docs);
    /** @type {string[]} */
    this.accepted = [];
    /** @type {Map<string, ChannelError>} */
    this.refused = new Map();
    this.answered = false;
  }

  /**
   * The gateway accepted these.
   * @param {Iterable<string>} docs
   */
  accept(docs) {
    this.accepted.push(...docs);
    for (const doc of this.accepted) {
      this.docs.delete(doc);
    }
  }

  /**
   * The gateway refused this one.
   * @param {string} doc
   * @param {ChannelError} error
   */
  refuse(doc, error) {
    this.docs.delete(doc);
    this.refused.set(doc, error);
  }
}

/** The requests of one connection, by id. */
export class Requests {
  #timeoutMs;
  /** @type {Map<string, Pending>} */
  #pending = new Map();
  #count = 0;

  /** @param {number} timeoutMs how long an answer may take */
  constructor(timeoutMs) {
    this.#timeoutMs = timeoutMs;
  }

  /** Those under way now, whatever is done to them meanwhile. */
  [Symbol.iterator]() {
    return [...this.#pending.values()].values();
  }

  /**
   * An id for a request of the session's own; never one of the application's.
   * @returns {string}
   */
  ownId() {
    this.#count += 1;
    return `s${this.#count}`;
  }

  /**
   * Wait for an answer.
   * @param {string} id
   * @param {Kind} kind
   * @param {number} now monotonic milliseconds
   * @param {Iterable<string>} [docs]
   * @param {{own?: boolean}} [whose]
   * @returns {Pending}
   */
  add(id, kind, now, docs = [], { own = false } = {}) {
    const pending = new Pending(id, kind, now, now + this.#timeoutMs, own, docs);
    this.#pending.set(id, pending);
    return pending;
  }

  /**
   * The request if it still waits.
   * @param {string | null} id
   * @returns {Pending | null}
   */
  get(id) {
    return id === null ? null : (this.#pending.get(id) ?? null);
  }

  /**
   * Wait no longer.
   * @param {string} id
   */
  remove(id) {
    this.#pending.delete(id);
  }

  /**
   * The connection is gone, and with it every answer.
   * @returns {Pending[]}
   */
  clear() {
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    return pending;
  }

  /**
   * When the next one has waited too long, in monotonic milliseconds; infinite when there is none.
   * @returns {number}
   */
  deadline() {
    let earliest = Infinity;
    for (const { deadline } of this.#pending.values()) {
      earliest = Math.min(earliest, deadline);
    }
    return earliest;
  }

  /**
   * Those that have waited too long; they are removed.
   * @param {number} now monotonic milliseconds
   * @returns {Pending[]}
   */
  overdue(now) {
    const late = [...this.#pending.values()].filter(({ deadline }) => deadline <= now);
    for (const { id } of late) {
      this.#pending.delete(id);
    }
    return late;
  }
}
