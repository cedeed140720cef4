/** What happens on one connection, in order, although proving a copy takes time: digests come asynchronously. */

import { revision } from "./document.js";
import { isRight } from "./proof.js";

/** @typedef {import("./events.js").Event} Event */
/** @typedef {import("./messages.js").ServerMessage} ServerMessage */
/** @typedef {import("./proof.js").Candidate} Candidate */
/** @typedef {import("./proof.js").Proof} Proof */
/** @typedef {import("./session.js").Session} Session */

// What may wait for a digest; beyond that documents are asked for again instead.
const MOST_EVENTS = 2_000;
const MOST_CHARACTERS = 2 ** 24;
const FIRST_FINAL_CODE = 4500;
const OF_DOCUMENTS = ["snapshot", "update", "current"];

/**
 * Hands the events of one connection over one by one, each frame with the proof that it needs.
 *
 * While a copy is proved the others wait; then those updates of a document that follow each other are proved, and
 * handed over, as one. An end that the gateway decides waits for nothing: what is dropped for it comes again with the
 * next connection, or nobody may see it any more.
 */
export class Intake {
  #session;
  #subtle;
  #feed;
  #fail;
  /** @type {Event[]} */
  #waiting = [];
  #characters = 0;
  #isBusy = false;
  #stopped = false;

  /**
   * @param {Session} session
   * @param {import("./environment.js").Digests | null} subtle null where nothing can be proved
   * @param {(event: Event) => void} feed
   * @param {(fault: unknown) => void} fail is told of a fault of this program
   */
  constructor(session, subtle, feed, fail) {
    this.#session = session;
    this.#subtle = subtle;
    this.#feed = feed;
    this.#fail = fail;
  }

  /**
   * Hand an event over when those before it are: at once, unless one of them is still being proved.
   * @param {Event} event
   */
  put(event) {
    if (this.#stopped) {
      return;
    }
    if (this.#isBusy && this.#isEnd(event)) {
      this.stop();
      this.#feed(event);
      return;
    }
    this.#waiting.push(event);
    this.#characters += sizeOf(event);
    if (!this.#isBusy) {
      void this.#handOver();
    } else if (this.#waiting.length > MOST_EVENTS || this.#characters > MOST_CHARACTERS) {
      this.#drop();
    }
  }

  /** Hand nothing more over. */
  stop() {
    this.#stopped = true;
    this.#waiting.length = 0;
  }

  async #handOver() {
    this.#isBusy = true;
    try {
      for (let event = this.#waiting.shift(); event !== undefined; event = this.#waiting.shift()) {
        this.#characters -= sizeOf(event);
        if (event.type === "received" && this.#subtle !== null) {
          const candidate = this.#session.candidate(event.frame, null, this.#frames());
          event = candidate === null ? event : await this.#prove(event.frame, candidate, this.#subtle);
        }
        if (!this.#stopped) {
          this.#feed(event);
        }
      }
    } catch (fault) {
      if (!this.#stopped) {
        this.#fail(fault);
      }
    } finally {
      this.#isBusy = false;
    }
  }

  /**
   * @param {unknown} frame
   * @param {Candidate} candidate what it leads to, and those that wait with it
   * @param {import("./environment.js").Digests} subtle
   * @returns {Promise<Event>} this frame with its proof, or the last of those that are proved with it
   */
  async #prove(frame, candidate, subtle) {
    /** @type {Proof | null} */
    let proof = null;
    let last = frame;
    let isAlone = false;
    for (let wanted = /** @type {Candidate | null} */ (candidate); wanted !== null && !this.#stopped;) {
      const { messages, text } = wanted;
      last = [...this.#frames()].find((waiting) => this.#session.read(waiting) === messages.at(-1)) ?? frame;
      proof = { candidate: wanted, rev: await revision(text, subtle) };
      if (messages.length > 1 && !isRight(proof)) {
        isAlone = true; // one of them is wrong: each is proved by itself
        proof = null;
      }
      wanted = this.#session.candidate(frame, proof, isAlone ? [] : this.#frames());
    }
    if (proof === null || proof.candidate.messages.length === 1) {
      return { type: "received", frame, proof };
    }
    this.#leaveOut(proof.candidate.messages);
    return { type: "received", frame: last, proof };
  }

  /** @param {readonly ServerMessage[]} messages what does not wait any more */
  #leaveOut(messages) {
    const done = new Set(messages);
    this.#keep((event) => {
      const message = event.type === "received" ? this.#session.read(event.frame) : null;
      return message === null || !done.has(message);
    });
  }

  /** @param {(event: Event) => boolean} isWanted */
  #keep(isWanted) {
    this.#waiting = this.#waiting.filter(isWanted);
    this.#characters = this.#waiting.reduce((sum, event) => sum + sizeOf(event), 0);
  }

  /** The frames that wait. */
  *#frames() {
    for (const event of this.#waiting) {
      if (event.type === "received") {
        yield event.frame;
      }
    }
  }

  /**
   * Whether nothing that came before matters any more: the gateway has ended the session.
   * @param {Event} event
   */
  #isEnd(event) {
    if (event.type === "lost") {
      return event.code !== null && event.code >= FIRST_FINAL_CODE;
    }
    const isLikely = event.type === "received" && typeof event.frame === "string" && event.frame.includes('"ended"');
    return isLikely && this.#session.read(event.frame)?.op === "ended";
  }

  /** Drop what came of the documents that wait longest, and have them asked for again. */
  #drop() {
    while (this.#waiting.length > MOST_EVENTS / 2 || this.#characters > MOST_CHARACTERS / 2) {
      const doc = this.#waiting.map((event) => this.#documentOf(event)).find((name) => name !== "");
      if (doc === undefined) {
        return;
      }
      this.#keep((event) => this.#documentOf(event) !== doc);
      this.#feed({ type: "missed", doc });
    }
  }

  /** @param {Event} event */
  #documentOf(event) {
    return event.type === "received" ? documentOf(this.#session.read(event.frame)) : "";
  }
}

/**
 * The document that a message shows; empty for one that shows none.
 * @param {ServerMessage | null} message
 * @returns {string}
 */
function documentOf(message) {
  return message !== null && OF_DOCUMENTS.includes(message.op) && "doc" in message ? (message.doc ?? "") : "";
}

/** @param {Event} event */
function sizeOf(event) {
  return event.type === "received" && typeof event.frame === "string" ? event.frame.length : 0;
}
