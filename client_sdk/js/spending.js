/**
 * Requests to spend: each is sent until it is answered, over any number of connections.
 *
 * Each carries what makes it one request however often it is sent, a key or the name of a lease: so nothing is charged
 * twice, and nobody has to guess. Without input or output, like the `Session` that it is part of. Times in monotonic
 * milliseconds.
 */

import { Disconnected, RequestTimeout, copyOf } from "./errors.js";
import { PriorityQueue } from "./priority_queue.js";
import { errorOf } from "./wire.js";

/** @typedef {import("./errors.js").ChannelError} ChannelError */
/** @typedef {import("./events.js").Effect} Effect */
/** @typedef {import("./events.js").Spend} Spend */
/** @typedef {import("./messages.js").ErrorMessage} ErrorMessage */
/** @typedef {import("./messages.js").Reply} Reply */
/** @typedef {import("./wire.js").SpendingMessage} SpendingMessage */

// Not carried out: asking again helps.
const REFUSED_FOR_NOW = ["unavailable", "rate_limited"];
// Nobody knows; asking again tells.
const UNDECIDED = ["uncertain", "internal"];
// The key or the lease stands for something else, for good: no attempt was carried out, and none will be. A refusal
// such as `quota_exceeded` says only that none was so far. One that went out on a connection that is lost may wait on
// another node yet, and be carried out when units become free.
const FINAL = ["conflict"];
// How long to wait where the gateway does not say, and whatever it says; and by how much those who wait are spread, so
// that they do not all come back at once.
const RETRY_S = 1;
const LEAST_RETRY_S = 0.1;
const SPREAD_MS = 500;
// Unanswered at a time. A gateway ends a connection that sends twice its allowance (120 a minute, unless it is set
// otherwise): with so few under way the refusals come before that.
const AT_A_TIME = 64;

/**
 * @typedef {object} Asked One request.
 * @property {SpendingMessage} message
 * @property {number} number which one of all; the older one goes first
 * @property {number} deadline
 * @property {number} unknown how many times it was sent of which nobody said what became of it
 * @property {ChannelError | null} trouble
 */

/**
 * What to ask again with: the key, or the name of the lease.
 * @param {SpendingMessage} message
 * @returns {string}
 */
export function keyOf(message) {
  if (message.op === "consume") {
    return message.key;
  }
  return message.op === "extend" && message.key !== undefined ? message.key : message.lease;
}

/** The requests to spend of a session. */
export class Spending {
  // Every request is in `#deadlines`, and in one of `#underWay` (sent on this connection and not answered, by when it
  // is sent once more), `#postponed` (by when it may be sent again) and `#ready` (by its number).
  #underWay = new PriorityQueue();
  #postponed = new PriorityQueue();
  #ready = new PriorityQueue();
  #deadlines = new PriorityQueue();
  /** @type {Map<string, Asked>} */
  #asked = new Map();
  #count = 0;
  #isLive = false;
  #heldUntil = 0; // the gateway wants nothing before that
  /** @type {ChannelError | null} */
  #heldBy = null;
  #effects;
  #send;
  #silenceMs;

  /**
   * @param {Effect[]} effects what it wants goes in here
   * @param {(message: SpendingMessage) => void} send sends a message on the present connection
   * @param {number} silenceMs how long an answer may take before the request is sent once more on the same connection
   */
  constructor(effects, send, silenceMs) {
    this.#effects = effects;
    this.#send = send;
    this.#silenceMs = silenceMs;
  }

  // --- what the application asks ---

  /**
   * Ask now, or as soon as there is a connection.
   * @param {Spend} request
   * @param {number} now
   */
  ask({ id, message, timeoutMs }, now) {
    this.#count += 1;
    this.#asked.set(id, { message, number: this.#count, deadline: now + timeoutMs, unknown: 0, trouble: null });
    this.#deadlines.put(id, now + timeoutMs);
    this.#ready.put(id, this.#count);
    this.#pump(now);
  }

  /**
   * Nobody waits for this request any more; it is not sent again.
   * @param {string} id
   * @param {number} now
   */
  forget(id, now) {
    if (this.#take(id) !== null) {
      this.#pump(now);
    }
  }

  /**
   * The request, which is one no more.
   * @param {string} id
   * @returns {Asked | null}
   */
  #take(id) {
    const asked = this.#asked.get(id);
    if (asked === undefined) {
      return null;
    }
    this.#asked.delete(id);
    for (const queue of [this.#underWay, this.#postponed, this.#ready, this.#deadlines]) {
      queue.remove(id);
    }
    return asked;
  }

  // --- connections come and go ---

  /**
   * The session is live: what was not answered before is asked again.
   * @param {number} now
   */
  begin(now) {
    this.#isLive = true;
    this.#pump(now);
  }

  /** The connection is gone, and every answer with it. */
  lose() {
    this.#isLive = false;
    this.#heldUntil = 0;
    this.#heldBy = null;
    for (const id of this.#underWay) {
      this.#ready.put(id, this.#get(id).number);
    }
    this.#underWay.clear();
  }

  /**
   * No connection will come any more.
   * @param {ChannelError} error
   */
  stop(error) {
    for (const id of [...this.#asked.keys()]) {
      this.#reject(id, copyOf(error));
    }
  }

  // --- what the gateway says ---

  /**
   * A request succeeded; whether it was one of these.
   * @param {Reply} message
   * @param {number} now
   * @returns {boolean}
   */
  reply(message, now) {
    if (this.#take(message.id) === null) {
      return false;
    }
    this.#effects.push({ type: "resolve", id: message.id, value: message });
    this.#pump(now);
    return true;
  }

  /**
   * A request failed, for good or for now; whether it was one of these.
   * @param {ErrorMessage} message
   * @param {number} now
   * @param {number} chance a random number in [0, 1)
   * @returns {boolean}
   */
  error(message, now, chance) {
    const { id, code } = message;
    const asked = id === null ? undefined : this.#asked.get(id);
    if (asked === undefined || id === null) {
      return false;
    }
    const error = errorOf(message);
    if (this.#underWay.remove(id) && !UNDECIDED.includes(code)) {
      asked.unknown -= 1;
    }
    if (REFUSED_FOR_NOW.includes(code) || UNDECIDED.includes(code)) {
      const waitS = Math.max(LEAST_RETRY_S, error.retryAfterS || RETRY_S);
      this.#postpone(id, asked, error, now + waitS * 1000 + chance * SPREAD_MS);
    } else {
      if (FINAL.includes(code)) {
        asked.unknown = 0;
      }
      this.#reject(id, error);
    }
    this.#pump(now);
    return true;
  }

  /**
   * @param {string} id
   * @param {Asked} asked
   * @param {ChannelError} error
   * @param {number} againAt
   */
  #postpone(id, asked, error, againAt) {
    asked.trouble = error;
    this.#ready.remove(id);
    this.#postponed.put(id, againAt);
    if (error.code === "rate_limited") {
      this.#heldUntil = Math.max(this.#heldUntil, againAt);
      this.#heldBy = error;
    }
    if (againAt >= asked.deadline && asked.unknown === 0) {
      this.#reject(id, error);
    }
  }

  // --- time ---

  /**
   * When `tick` has something to do; infinite when it has not.
   * @returns {number}
   */
  deadline() {
    const deadline = this.#deadlines.first();
    if (!this.#isLive) {
      return deadline;
    }
    let due = this.#underWay.first();
    if (this.#underWay.size < AT_A_TIME) {
      due = Math.min(due, this.#ready.size > 0 ? this.#heldUntil : this.#postponed.first());
    }
    return Math.min(deadline, Math.max(due, this.#heldUntil));
  }

  /**
   * Give up on what took too long, and send again what is due.
   * @param {number} now
   */
  tick(now) {
    for (let id = this.#deadlines.take(now); id !== null; id = this.#deadlines.take(now)) {
      this.#reject(id, this.#tooLate(this.#get(id)));
    }
    this.#pump(now);
  }

  /**
   * @param {Asked} asked
   * @returns {ChannelError}
   */
  #tooLate({ trouble, unknown }) {
    if (unknown > 0) {
      const cause = trouble ?? undefined;
      return new RequestTimeout("The gateway did not say in time whether this was carried out.", { cause });
    }
    return trouble ?? (this.#heldBy && copyOf(this.#heldBy)) ?? new Disconnected("There was no connection in time.");
  }

  /**
   * Send what is due.
   * @param {number} now
   */
  #pump(now) {
    if (!this.#isLive || now < this.#heldUntil) {
      return;
    }
    for (const silent of [...taken(this.#underWay, now)]) {
      this.#sendNow(silent, now);
    }
    for (const id of taken(this.#postponed, now)) {
      this.#ready.put(id, this.#get(id).number);
    }
    while (this.#underWay.size < AT_A_TIME) {
      const id = this.#ready.take();
      if (id === null) {
        return;
      }
      this.#sendNow(id, now);
    }
  }

  /**
   * @param {string} id
   * @param {number} now
   */
  #sendNow(id, now) {
    const asked = this.#get(id);
    asked.unknown += 1;
    this.#underWay.put(id, now + this.#silenceMs);
    this.#send(asked.message);
  }

  /**
   * @param {string} id
   * @param {ChannelError} error
   */
  #reject(id, error) {
    const asked = this.#get(id);
    this.#take(id);
    if (asked.unknown > 0) {
      error.key = keyOf(asked.message);
    }
    this.#effects.push({ type: "reject", id, error });
  }

  /**
   * @param {string} id one of a queue, so it is asked
   * @returns {Asked}
   */
  #get(id) {
    return /** @type {Asked} */ (this.#asked.get(id));
  }
}

/**
 * Take away what is due, one after the other.
 * @param {PriorityQueue} queue
 * @param {number} now
 */
function* taken(queue, now) {
  for (let id = queue.take(now); id !== null; id = queue.take(now)) {
    yield id;
  }
}
