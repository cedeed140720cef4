/** Calls that are due at a time of the environment's clock. */

/** @typedef {import("./environment.js").Environment} Environment */

/** A longer delay would be taken for none (HTML, timers: 32 bits with a sign). */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Alarms that end together. */
export class Alarms {
  #environment;
  /** @type {Set<() => void>} */
  #stops = new Set();

  /** @param {Environment} environment */
  constructor(environment) {
    this.#environment = environment;
  }

  /**
   * Call back when the clock shows `when`: never earlier, and later where timers are throttled.
   * @param {number} when milliseconds; infinite: never
   * @param {() => void} callback
   * @returns {() => void} what ends it
   */
  at(when, callback) {
    if (when === Infinity) {
      return () => undefined;
    }
    const environment = this.#environment;
    /** @type {unknown} */
    let timer;
    const arm = () => {
      const delayMs = Math.max(0, Math.ceil(when - environment.now()));
      timer = environment.setTimeout(ring, Math.min(delayMs, LONGEST_TIMER_MS));
    };
    const stop = () => {
      this.#stops.delete(stop);
      environment.clearTimeout(timer);
    };
    const ring = () => {
      if (environment.now() < when) {
        arm();
      } else {
        this.#stops.delete(stop);
        callback();
      }
    };
    this.#stops.add(stop);
    arm();
    return stop;
  }

  /** End all of them. */
  clear() {
    for (const stop of [...this.#stops]) {
      stop();
    }
  }
}
