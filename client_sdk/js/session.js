/**
 * The channel's protocol without input or output: events in, effects out, time and chance as arguments.
 *
 * `Session.handle` takes one event, the time of a monotonic clock in milliseconds, and a random number in [0, 1); it
 * returns what to do. `deadline` is the time at which a `tick` is due. Whoever drives it performs the effects in order
 * and feeds back what comes of them; nothing else. See `Machine` for the states.
 *
 * The token is asked for before every connection, and travels in the first message: a page can not set the headers of
 * a handshake. What is watched and held survives a connection: the next one resumes from the revisions held.
 *
 * The digest that proves a copy can only be computed asynchronously. So whoever drives the session asks `candidate`
 * before each frame, and hands the proof over with the frame.
 */

import { Disconnected, MalformedMessage } from "./errors.js";
import { Condition } from "./life.js";
import { Machine } from "./machine.js";

/** @import { Effect, Event, Request } from "./events.js" */
/** @import { Freshness } from "./freshness.js" */
/** @import { Held } from "./held.js" */
/** @import { Options } from "./options.js" */
/** @import { ServerMessage } from "./messages.js" */
/** @import { Candidate, Proof } from "./proof.js" */
/** @import { Replica } from "./replica.js" */

export { Condition };

const REQUESTS = ["watchDocuments", "unwatchDocuments", "syncDocument", "measurePing", "awaitSeq", "spend"];

/** The whole life of a channel, over any number of connections. */
export class Session {
  #machine;
  /** @type {Effect[]} */
  #effects = [];

  /** @param {Readonly<Options>} options see `makeOptions` */
  constructor(options) {
    this.#machine = new Machine(options, this.#effects);
  }

  // --- what can be seen ---

  /**
   * How it behaves.
   * @returns {Readonly<Options>}
   */
  get options() {
    return this.#machine.options;
  }

  /**
   * Where it stands.
   * @returns {Condition}
   */
  get condition() {
    return this.#machine.condition;
  }

  /**
   * The gateway's name of the present session, or of the last one.
   * @returns {string | null}
   */
  get id() {
    return this.#machine.id;
  }

  /**
   * The numbering of the change log, by the name that the gateway gave it last.
   * @returns {string | null}
   */
  get epoch() {
    return this.#machine.epoch;
  }

  /**
   * How many frames were no messages.
   * @returns {number}
   */
  get malformed() {
    return this.#machine.malformed;
  }

  /**
   * Who this is, `user:ID` or `instance:ID`; null before the first connection.
   * @returns {string | null}
   */
  get principal() {
    return this.#machine.talk.principal;
  }

  /**
   * The documents that are watched.
   * @returns {Replica}
   */
  get replica() {
    return this.#machine.talk.replica;
  }

  /**
   * The own document, if it is watched and its name is known.
   * @returns {Held | null}
   */
  get own() {
    return this.replica.get(this.resolve("self"));
  }

  /**
   * When the credential ends (RFC 3339), as the gateway said; null: never, or not known.
   * @returns {string | null}
   */
  get expiresAt() {
    return this.#machine.expiresAt;
  }

  /**
   * Whether every watched document came on this connection.
   * @returns {boolean}
   */
  complete() {
    return this.condition === Condition.LIVE && !this.replica.awaited();
  }

  /**
   * The canonical name of a document: `self` is the own one, once it is known who that is.
   * @param {string} name
   * @returns {string}
   */
  resolve(name) {
    return this.#machine.talk.resolve(name);
  }

  /**
   * How true everything held is.
   * @param {number} now monotonic milliseconds
   * @returns {Freshness}
   */
  freshness(now) {
    return this.#machine.freshness(now);
  }

  /**
   * When a `tick` is due, in milliseconds of the clock that `handle` is given; infinite when none is.
   * @returns {number}
   */
  get deadline() {
    return Math.min(this.#machine.dueAt, this.#machine.talk.spending.deadline());
  }

  // --- events ---

  /**
   * What has to be proved before this frame is handed over: the SHA-256 of `text`, by what is held now. Null when there
   * is nothing to prove, or `proof` is of just that. While the digest is computed other events may come, so ask again
   * with the proof until the answer is null, and then hand frame and proof over at once.
   * @param {unknown} frame
   * @param {Proof | null} [proof]
   * @param {Iterable<unknown>} [following] the frames that came after it: what one digest proves with it need not be
   *   proved again
   * @returns {Candidate | null}
   */
  candidate(frame, proof = null, following = []) {
    if (!this.options.verify || this.condition !== Condition.LIVE) {
      return null;
    }
    const message = this.read(frame);
    return message === null ? null : this.replica.candidate(message, proof, this.#readAll(following));
  }

  /**
   * What a frame says; null for what is no message, or none of this protocol.
   * @param {unknown} frame
   * @returns {ServerMessage | null}
   */
  read(frame) {
    try {
      return this.#machine.decode(frame);
    } catch (error) {
      if (error instanceof MalformedMessage) {
        return null; // handing it over says so
      }
      throw error;
    }
  }

  /** @param {Iterable<unknown>} frames */
  *#readAll(frames) {
    for (const frame of frames) {
      const message = this.read(frame);
      if (message !== null) {
        yield message;
      }
    }
  }

  /**
   * Take an event.
   * @param {Event} event
   * @param {number} now monotonic milliseconds
   * @param {number} chance a random number in [0, 1)
   * @returns {Readonly<Effect>[]} what to do, in this order
   */
  handle(event, now, chance) {
    if (this.condition !== Condition.STOPPED) {
      this.#machine.handle(event, now, chance);
    } else if (isRequest(event)) {
      const cause = this.#machine.fault ?? undefined;
      const error = new Disconnected("The channel is closed.", { code: "closed", cause });
      this.#effects.push({ type: "reject", id: event.id, error });
    }
    this.#machine.reportFreshness(now);
    return this.#effects.splice(0).map((effect) => Object.freeze(effect));
  }
}

/**
 * @param {Event} event
 * @returns {event is Request}
 */
function isRequest(event) {
  return REQUESTS.includes(event.type);
}
