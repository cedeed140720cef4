/** Calls that are due at a time of the environment's clock, and what the wall's clock says meanwhile. */

/** @typedef {import("./environment.js").Environment} Environment */
/** @typedef {{when: number, callback: () => void}} Alarm */

/** However far away the next alarm is, the clocks are looked at so often. */
const LOOK_MS = 15_000;
/** Between two looks the wall's clock may gain so much on the steady one before that means something. */
const DRIFT_MS = 2_000;

/** Alarms that end together, on one timer. */
export class Alarms {
  #environment;
  #look;
  /** @type {Set<Alarm>} */
  #alarms = new Set();
  /** @type {unknown} */
  #timer = null;
  #armedFor = Infinity;

  /**
   * @param {Environment} environment
   * @param {() => void} [look] is called whenever the timer fires, before those that are due
   */
  constructor(environment, look = () => undefined) {
    this.#environment = environment;
    this.#look = look;
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
    const alarm = { when, callback };
    this.#alarms.add(alarm);
    this.#arm(when);
    return () => {
      if (this.#alarms.delete(alarm) && this.#alarms.size === 0) {
        this.#disarm();
      }
    };
  }

  /** Call back those that are due, the oldest first; also where the timer is late. */
  ring() {
    const now = this.#environment.now();
    const due = [...this.#alarms].filter(({ when }) => when <= now).sort((one, other) => one.when - other.when);
    for (const alarm of due) {
      if (this.#alarms.delete(alarm)) {
        alarm.callback();
      }
    }
    this.#arm(Math.min(...[...this.#alarms].map(({ when }) => when)));
  }

  /** End all of them. */
  clear() {
    this.#alarms.clear();
    this.#disarm();
  }

  /** @param {number} when */
  #arm(when) {
    if (this.#alarms.size === 0) {
      this.#disarm();
    } else if (when < this.#armedFor) {
      this.#disarm();
      const delayMs = Math.max(0, Math.ceil(when - this.#environment.now()));
      this.#armedFor = when;
      this.#timer = this.#environment.setTimeout(() => this.#fire(), Math.min(delayMs, LOOK_MS));
    }
  }

  #disarm() {
    if (this.#timer !== null) {
      this.#environment.clearTimeout(this.#timer);
    }
    this.#timer = null;
    this.#armedFor = Infinity;
  }

  #fire() {
    this.#timer = null;
    this.#armedFor = Infinity;
    this.#look();
    this.ring();
  }
}

/**
 * Compares the two clocks. The steady one stands still on some systems while the computer sleeps; the wall's clock does
 * not, but may be set by anybody. So what is seen here is a reason to look closer, and no more than that.
 */
export class Gaps {
  #environment;
  #ahead;
  /** @type {Set<(gapMs: number) => void>} */
  #callbacks = new Set();

  /** @param {Environment} environment */
  constructor(environment) {
    this.#environment = environment;
    this.#ahead = this.#difference();
  }

  /**
   * Call back when, since the last look, so much more time may have passed than the steady clock says.
   * @param {(gapMs: number) => void} callback
   * @returns {() => void} what ends it
   */
  on(callback) {
    this.#callbacks.add(callback);
    return () => {
      this.#callbacks.delete(callback);
    };
  }

  /** Look at the clocks, and call back if there is reason to. */
  look() {
    const ahead = this.#difference();
    const gapMs = ahead - this.#ahead;
    this.#ahead = ahead;
    for (const callback of gapMs > DRIFT_MS ? [...this.#callbacks] : []) {
      callback(gapMs);
    }
  }

  #difference() {
    return this.#environment.wallClock() - this.#environment.now();
  }
}
