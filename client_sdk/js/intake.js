/** What happens on one connection, in order, although proving a copy takes time: digests come asynchronously. */

import { revision } from "./document.js";

/** @typedef {import("./events.js").Event} Event */
/** @typedef {import("./replica.js").Proof} Proof */
/** @typedef {import("./session.js").Session} Session */

/** Hands the events of one connection over one by one, each frame with the proof that it needs. */
export class Intake {
  #session;
  #subtle;
  #feed;
  #fail;
  /** @type {Event[]} */
  #waiting = [];
  #isBusy = false;
  #stopped = false;

  /**
   * @param {Session} session
   * @param {SubtleCrypto | null} subtle null where nothing can be proved
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
    this.#waiting.push(event);
    if (!this.#isBusy) {
      void this.#handOver();
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
        if (event.type === "received" && this.#subtle !== null) {
          const { frame } = event;
          /** @type {Proof | null} */
          let proof = null;
          for (let wanted = this.#session.candidate(frame); wanted !== null;) {
            proof = { candidate: wanted, rev: await revision(wanted.text, this.#subtle) };
            wanted = this.#session.candidate(frame, proof);
          }
          event = { type: "received", frame, proof };
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
}
