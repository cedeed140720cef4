/** Takes a unit of a quota for every stretch of time that something goes on, and stops it when there are no more. */

import { runnerOf } from "./driven.js";
import { Forbidden, MeterStopped, NotFound, QuotaExceeded, passes } from "./errors.js";
import { LONGEST_KEY, checkedAmount, checkedMs, checkedName, madeAt, newKey } from "./keys.js";
import { call } from "./listeners.js";

/** @typedef {import("./channel.js").Channel} Channel */
/** @typedef {import("./freshness.js").Freshness} Freshness */
/** @typedef {import("./quota.js").Balance} Balance */

/**
 * @typedef {object} MeterOptions
 * @property {number} [unitMs] how long a unit of time is, 60,000 when not given
 * @property {number} [amount] what each costs, 1 when not given
 * @property {string | null} [permission] what the user must have all the time
 * @property {string | null} [org] an organization whose pool pays
 * @property {string | null} [key] at most 116 characters that name the call: the same call begun again goes on with the
 *   unit of now, and is not charged again for one that it had
 * @property {number} [graceMs] how long the call goes on without a connection, without an answer to what is due, or
 *   without a timer that rings for it, 90,000 when not given: timers of a hidden page ring once a minute
 * @property {((balance: Balance) => unknown) | null} [onLow] called whenever the level becomes `low`, `critical` or
 *   `exhausted`
 */

/** What is put after the key of a meter to make the keys of its units. */
const UNIT_LENGTH = 12;
const LONGEST = LONGEST_KEY - UNIT_LENGTH;

/**
 * Meters what goes on in a function, a call for example.
 *
 *     const meter = new Meter(channel, "voice_minutes", { permission: "can_use_voice" });
 *     await meter.run(async (signal) => talk(signal));
 *
 * At the start of each unit of time it takes `amount` units, the first before the function begins. When that fails,
 * when `permission` is lost, or when the channel ends for good, it aborts the signal, and `run` rejects with
 * `MeterStopped`. A gateway that can not be asked, or does not answer, stops it after `graceMs`; until then the call
 * goes on, and what is due is asked for with the same key, so that nothing is charged twice.
 *
 * Time that nobody watched is not paid for: after it the call stops. A timer that rings more than `graceMs` late, and
 * clocks that say that the computer may have slept for longer than that, stop it with `offline`.
 *
 * A key that the SDK made says when the call began; the units of any other are those of the clock, each `unitMs` since
 * 1970, so that the first may be a short one.
 */
export class Meter {
  #channel;
  #runner;
  #quota;
  #unitMs;
  #amount;
  #permission;
  #org;
  #graceMs;
  #onLow;
  #isResumed;
  /** @type {Balance | null} */
  #balance = null;
  #level = "ok";
  #units = 0;
  #first = 0; // the number of the unit that was the first to be taken here
  /** @type {number | null} */
  #began = null;
  /** @type {MeterStopped | null} */
  #stopped = null;
  #isRunning = false;
  #aborting = new AbortController();
  /** @type {(why: MeterStopped) => void} */
  #reject = () => undefined;
  /** @type {() => void} */
  #cancelNext = () => undefined;
  /** @type {() => void} */
  #cancelTooLong = () => undefined;

  /**
   * @param {Channel} channel
   * @param {string} quota
   * @param {MeterOptions} [options]
   */
  constructor(channel, quota, options = {}) {
    const { unitMs = 60_000, amount = 1, permission = null, org = null } = options;
    const { key = null, graceMs = 90_000, onLow = null } = options;
    this.#channel = channel;
    this.#runner = runnerOf(channel);
    this.#quota = checkedName("a quota", quota);
    this.#unitMs = checkedMs("unitMs", unitMs);
    this.#amount = checkedAmount(amount);
    this.#permission = permission;
    this.#org = org === null ? null : checkedName("an organization", org);
    this.#graceMs = checkedMs("graceMs", graceMs);
    this.#onLow = onLow;
    this.#isResumed = key !== null;
    /** What names the call. */
    this.key = key === null ? newKey(this.#runner.environment.wallClock) : checkedName("a meter's key", key, LONGEST);
  }

  /**
   * How many units of time were paid.
   * @returns {number}
   */
  get units() {
    return this.#units;
  }

  /**
   * What the quota stood at after the last one; null before the first.
   * @returns {Balance | null}
   */
  get balance() {
    return this.#balance;
  }

  /**
   * Why the function was stopped; null while it was not.
   * @returns {MeterStopped | null}
   */
  get stopped() {
    return this.#stopped;
  }

  // --- its life ---

  /**
   * Run a function while it is paid for. Its result is that of this one; when the meter stops, nobody waits for it any
   * more.
   * @template T
   * @param {(signal: AbortSignal) => T | Promise<T>} body is told by the signal that it is to end
   * @returns {Promise<T>}
   */
  async run(body) {
    if (this.#began !== null) {
      throw new Error("a meter runs once");
    }
    this.#begin();
    await this.#take();
    const stop = this.#watch();
    /** @type {Promise<never>} */
    const stopped = new Promise((_, reject) => (this.#reject = reject));
    this.#isRunning = true;
    this.#next();
    this.#fresh(this.#channel.freshness);
    this.#look();
    try {
      return await Promise.race([stopped, this.#stopped === null ? this.#call(body) : stopped]);
    } finally {
      this.#isRunning = false;
      stop();
    }
  }

  /**
   * @template T
   * @param {(signal: AbortSignal) => T | Promise<T>} body
   * @returns {Promise<T>}
   */
  async #call(body) {
    return body(this.#aborting.signal);
  }

  #begin() {
    this.#began = this.#runner.now();
    if (this.#isResumed) {
      const { number, goneMs } = unitOf(this.key, this.#unitMs, this.#runner.environment.wallClock());
      this.#first = number;
      this.#began -= goneMs;
    }
  }

  #watch() {
    const channel = this.#channel;
    const ends = [
      channel.on("freshness", (freshness) => this.#fresh(freshness)),
      channel.on("ended", () => this.#look()),
      channel.on("change", () => this.#look()),
      this.#runner.gaps.on((gapMs) => this.#doubt(this.#runner.now() + gapMs)),
    ];
    return () => {
      ends.forEach((end) => end());
      this.#cancelNext();
      this.#cancelTooLong();
    };
  }

  /** See whether it may go on. Of a channel that ended nothing is held: that is no loss of a permission. */
  #look() {
    if (this.#runner.fault !== undefined) {
      this.#stop(new MeterStopped("stopped", this.#runner.fault ?? undefined));
    } else if (!this.#runner.ended && !this.#isAllowed()) {
      this.#stop(new MeterStopped("forbidden"));
    }
  }

  /** @param {MeterStopped} why */
  #stop(why) {
    if (this.#isRunning && this.#stopped === null) {
      this.#stopped = why;
      this.#reject(why);
      this.#aborting.abort(why);
    }
  }

  // --- what stops it ---

  /** When the next unit begins. */
  get #due() {
    return /** @type {number} */ (this.#began) + this.#units * this.#unitMs;
  }

  /** Take the next unit when it is due: at once if it was due while the timers of the page slept. */
  #next() {
    const isDue = this.#runner.now() >= this.#due;
    this.#cancelNext = isDue ? () => undefined : this.#runner.callAt(this.#due, () => this.#ring());
    if (isDue) {
      this.#ring();
    }
  }

  /** Take one unit. */
  #ring() {
    this.#doubt(this.#runner.now());
    if (this.#stopped !== null) {
      return;
    }
    this.#take().then(
      () => this.#isRunning && this.#next(),
      (why) => this.#missed(why),
    );
  }

  /**
   * Stop it if nobody has watched it for too long.
   * @param {number} now what time it may be
   */
  #doubt(now) {
    if (now > this.#due + this.#graceMs) {
      this.#stop(new MeterStopped("offline"));
    }
  }

  /** @param {unknown} error */
  #missed(error) {
    const why = error instanceof MeterStopped ? error : new MeterStopped("stopped", error);
    if (why.reason === "offline" && this.#isRunning) {
      // Known before the grace is over, when the gateway says that it takes longer.
      this.#cancelNext = this.#runner.callAt(this.#due + this.#graceMs, () => this.#stop(why));
    } else {
      this.#stop(why);
    }
  }

  async #take() {
    if (!this.#isAllowed()) {
      throw new MeterStopped("forbidden");
    }
    const key = `${this.key}.${this.#first + this.#units}`;
    const lateMs = this.#isRunning ? Math.max(0, this.#runner.now() - this.#due) : 0;
    const options = { key, org: this.#org, timeoutMs: Math.max(1, this.#graceMs - lateMs) };
    try {
      this.#balance = await this.#channel.consume(this.#quota, this.#amount, options);
    } catch (error) {
      throw stoppedBy(error);
    }
    this.#units += 1;
    this.#watchLevel(this.#balance);
  }

  #isAllowed() {
    return this.#permission === null || this.#channel.can(this.#permission);
  }

  /** @param {Freshness} freshness */
  #fresh({ state }) {
    this.#cancelTooLong();
    if (state === "offline") {
      const why = new MeterStopped("offline", this.#channel.trouble ?? undefined);
      this.#cancelTooLong = this.#runner.callAt(this.#runner.now() + this.#graceMs, () => this.#stop(why));
    }
  }

  /** @param {Balance} balance */
  #watchLevel(balance) {
    const before = this.#level;
    this.#level = balance.level;
    if (this.#onLow !== null && this.#level !== "ok" && this.#level !== before) {
      call(this.#onLow, balance, this.#runner.environment.report);
    }
  }
}

/**
 * The number of the unit of time that `now` is in, and how much of it is over.
 *
 * Units are counted from the time that the key begins with. Where that is none, or one to come (then the SDK did not
 * make the key, or clocks are further apart than a unit), they are counted from 1970: in any case two times in one unit
 * have one number, and a later unit has another.
 * @param {string} key
 * @param {number} unitMs
 * @param {number} now milliseconds since 1970
 * @returns {{number: number, goneMs: number}}
 */
export function unitOf(key, unitMs, now) {
  const made = madeAt(key);
  const gone = Math.max(0, made === null || made > now + unitMs ? now : now - made);
  return { number: Math.floor(gone / unitMs), goneMs: gone % unitMs };
}

/**
 * What an error of `consume` means for a call.
 * @param {unknown} error
 * @returns {MeterStopped}
 */
function stoppedBy(error) {
  if (error instanceof QuotaExceeded) {
    return new MeterStopped("exhausted", error);
  }
  if (error instanceof Forbidden || error instanceof NotFound) {
    return new MeterStopped("forbidden", error);
  }
  return new MeterStopped(passes(error) ? "offline" : "stopped", error);
}
