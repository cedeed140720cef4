/** Units of a quota that are held while something goes on, and settled when it is over. */

import { asyncDispose } from "./dispose.js";
import { ChannelError, Conflict, LeaseExpired, LeaseNotFound, QuotaExceeded, passes } from "./errors.js";
import { LONGEST_KEY, checkedAmount, checkedKey, checkedMs, checkedName, checkedTtl, newKey } from "./keys.js";
import { balanceOf } from "./quota.js";

/** @typedef {import("./quota.js").Balance} Balance */
/** @typedef {import("./runner.js").Runner} Runner */
/** @typedef {import("./wire.js").Reply} Reply */

/**
 * @typedef {object} LeaseOptions
 * @property {number} [ttlS] after how many seconds (1 to 3600, 180 when not given) without this client the gateway
 *   gives the units back
 * @property {string | null} [name] 1 to 128 characters, one for each lease ever made: lets a program that was started
 *   again take its lease up again
 * @property {string | null} [org] an organization whose pool it is taken from
 * @property {number} [timeoutMs] bounds each request, 30,000 when not given
 * @property {AbortSignal} [signal] nobody waits for it to begin any more; what may be held by then is given back
 */

/**
 * When a lease is extended, as a share of its time. What is due may come a minute late, for timers of a hidden page
 * ring once a minute; the default of `ttlS` leaves another minute after that.
 */
const EXTEND_AT = 1 / 3;
/** When one is extended before anybody uses it, for it took so long to come. */
const WORN = 1 / 2;
/** How many times within the time of a lease one that could not be extended is tried. */
const PAUSES = 10;

/**
 * Units that nobody else gets until `commit` or `release`; see `Channel.lease`.
 *
 * The lease extends itself when a third of `ttlS` is over, and at once when the computer may have slept. An answer that
 * is lost on the way changes nothing, and a client that is never heard of again costs its user at most one lease, until
 * `ttlS` is over. A lease that could not be extended in time is not interrupted: the next `use` or `add` throws
 * `LeaseExpired`, and so does `commit` when units were used that could not be committed.
 */
export class Lease {
  #runner;
  #amount;
  #ttlS;
  #timeoutMs;
  #signal;
  #isNamed;
  #isOpen = false;
  #held = 0;
  #used = 0;
  /** @type {Balance | null} */
  #balance = null;
  /** @type {string | null} */
  #expiresAt = null;
  #heldUntil = 0; // of the runner's clock: the gateway holds it at least so long
  /** @type {unknown} */
  #trouble = null;
  #isExtending = false;
  /** @type {() => void} */
  #cancelNext = () => undefined;
  /** @type {() => void} */
  #stopDoubting = () => undefined;

  /**
   * @param {Runner} runner
   * @param {string} quota
   * @param {number} amount
   * @param {LeaseOptions} [options]
   */
  constructor(runner, quota, amount, options = {}) {
    const { ttlS = 180, name = null, org = null, timeoutMs = 30_000, signal } = options;
    this.#runner = runner;
    this.#amount = checkedAmount(amount);
    this.#ttlS = checkedTtl(ttlS);
    this.#timeoutMs = checkedMs("timeoutMs", timeoutMs);
    this.#signal = signal;
    this.#isNamed = name !== null;
    /** What the gateway calls it. */
    this.name = name === null ? newKey() : checkedName("the name of a lease", name, LONGEST_KEY);
    /** The quota that it is of. */
    this.quota = checkedName("a quota", quota);
    /** The organization whose pool it is taken from; null: it is the user's own. */
    this.org = org === null ? null : checkedName("an organization", org);
  }

  // --- what it holds ---

  /**
   * How many units are held, or were.
   * @returns {number}
   */
  get held() {
    return this.#held;
  }

  /**
   * How many of them were used.
   * @returns {number}
   */
  get used() {
    return this.#used;
  }

  /**
   * How many can still be used without `add`.
   * @returns {number}
   */
  get left() {
    return this.#held - this.#used;
  }

  /**
   * What the quota stood at when the gateway last spoke of this lease; null before it did.
   * @returns {Balance | null}
   */
  get balance() {
    return this.#balance;
  }

  /**
   * When the lease ends unless it is extended (RFC 3339, UTC, by the gateway's clock); null before it began.
   * @returns {string | null}
   */
  get expiresAt() {
    return this.#expiresAt;
  }

  // --- what can be done with it ---

  /**
   * Count units as used; they are committed at the end.
   * @param {number} [units]
   * @throws {QuotaExceeded} the lease does not hold so many more: `add` some
   * @throws {LeaseExpired} it has ended, and these were not counted
   */
  use(units = 1) {
    checkedAmount(units);
    this.#check();
    if (units > this.left) {
      throw new QuotaExceeded(`The lease holds ${this.left} more.`, { quota: this.quota, remaining: this.left });
    }
    this.#used += units;
  }

  /**
   * Hold more units, and all of them for `ttlS` from now. Rejects with what `Channel.consume` rejects with, with
   * `LeaseExpired`, and with `Conflict` when the quota's period is over: then commit, and take another lease.
   * @param {number} units
   * @param {{key?: string | null}} [options] `key` names this request; a new one when not given
   * @returns {Promise<Balance>}
   */
  async add(units, { key = null } = {}) {
    checkedAmount(units);
    this.#check();
    return this.#extend(this.#timeoutMs, { amount: units, key: checkedKey(key) });
  }

  /**
   * End the lease: what was used counts, the rest is given back. It may be called again after an error that passes,
   * like `RequestTimeout`: nothing is counted twice.
   * @returns {Promise<Balance>}
   */
  commit() {
    return this.#used > 0 ? this.#settle({ op: "commit", amount: this.#used }) : this.release();
  }

  /**
   * End the lease and give everything back, what was used too. It may be called again like `commit`.
   * @returns {Promise<Balance>}
   */
  release() {
    return this.#settle({ op: "release" });
  }

  /** Commits at the end of the block: `await using lease = await channel.lease(…)`. */
  async [asyncDispose]() {
    await this.commit();
  }

  // --- its life ---

  /**
   * Reserve the units, and keep them. When that fails although units may be held by then, they are given back.
   * @returns {Promise<this>}
   */
  async begin() {
    this.#signal?.throwIfAborted();
    const began = this.#runner.now();
    const { name: lease, quota, org } = this;
    const reserve = { lease, quota, amount: this.#amount, ttl_s: this.#ttlS, ...(org === null ? {} : { org }) };
    try {
      const signal = this.#signal;
      this.#learn(await this.#runner.spend((id) => ({ op: "reserve", id, ...reserve }), this.#timeoutMs, signal));
      this.#heldUntil = began + this.#ttlS * 1000;
      if (this.#isNamed || this.#runner.now() >= began + WORN * this.#ttlS * 1000) {
        await this.#extend(this.#timeoutMs, {}, signal); // it may have begun long ago
      }
    } catch (error) {
      if (this.#mayBeHeld(error)) {
        this.#giveBack();
      }
      throw error;
    }
    this.#isOpen = true;
    this.#keep(0);
    this.#stopDoubting = this.#runner.gaps.on(() => this.#extendNow());
    return this;
  }

  /** @param {{op: "commit", amount: number} | {op: "release"}} message */
  async #settle(message) {
    this.#isOpen = false;
    this.#cancelNext();
    this.#stopDoubting();
    this.#learn(await this.#runner.spend((id) => ({ id, lease: this.name, ...message }), this.#timeoutMs));
    return /** @type {Balance} */ (this.#balance);
  }

  /**
   * Whether a beginning that ended with this error may leave units held. Another's lease is never meant: a name that
   * stands for something else is refused.
   * @param {unknown} error
   */
  #mayBeHeld(error) {
    return !isOver(error) && (this.#held > 0 || !(error instanceof ChannelError) || error.key !== null);
  }

  /** Nobody waits for that, as nobody has it. */
  #giveBack() {
    this.release().catch((error) => {
      if (!(error instanceof LeaseExpired || error instanceof LeaseNotFound)) {
        this.#runner.environment.report(error);
      }
    });
  }

  /** @param {number} pauseMs wait at least so long before the next time */
  #keep(pauseMs) {
    const due = this.#heldUntil - (1 - EXTEND_AT) * this.#ttlS * 1000;
    this.#cancelNext();
    this.#cancelNext = this.#runner.callAt(Math.max(due, this.#runner.now() + pauseMs), () => this.#extendNow());
  }

  #extendNow() {
    if (this.#isExtending || isOver(this.#trouble)) {
      return;
    }
    this.#isExtending = true;
    this.#extend((1 - EXTEND_AT) * this.#ttlS * 1000).then(
      () => this.#kept(null),
      (error) => this.#kept(error),
    );
  }

  /** @param {unknown} trouble why it could not be extended; null when it was */
  #kept(trouble) {
    this.#isExtending = false;
    this.#trouble = trouble;
    if (this.#isOpen && (trouble === null || passes(trouble))) {
      this.#keep(trouble === null ? 0 : (this.#ttlS * 1000) / PAUSES);
    }
  }

  /**
   * @param {number} timeoutMs
   * @param {{amount?: number, key?: string}} [more]
   * @param {AbortSignal} [signal]
   * @returns {Promise<Balance>}
   */
  async #extend(timeoutMs, more = {}, signal = undefined) {
    const began = this.#runner.now();
    const extend = { lease: this.name, ttl_s: this.#ttlS, ...more };
    this.#learn(await this.#runner.spend((id) => ({ op: "extend", id, ...extend }), timeoutMs, signal));
    this.#heldUntil = Math.max(this.#heldUntil, began + this.#ttlS * 1000);
    return /** @type {Balance} */ (this.#balance);
  }

  #check() {
    if (!this.#isOpen) {
      throw new Error("the lease is not open: it is used between its beginning and its end");
    }
    if (isOver(this.#trouble)) {
      throw new LeaseExpired("The lease has ended.", { cause: this.#trouble });
    }
    if (this.#runner.now() >= this.#heldUntil) {
      const cause = this.#trouble ?? undefined;
      throw new LeaseExpired("The lease was not extended in time.", { cause });
    }
  }

  /** @param {Reply} reply */
  #learn(reply) {
    this.#balance = balanceOf(reply);
    this.#held = Math.max(this.#held, reply.held);
    this.#expiresAt = reply.expiresAt;
  }
}

/**
 * Hold a lease while `body` goes on, and commit it however that ends. An error of the body goes first; one of the
 * commit is reported then.
 * @template T
 * @param {Lease} lease one that has begun
 * @param {(lease: Lease) => T | Promise<T>} body
 * @param {(error: unknown) => void} report
 * @returns {Promise<T>}
 */
export async function during(lease, body, report) {
  let result;
  try {
    result = await body(lease);
  } catch (error) {
    await lease.commit().catch(report);
    throw error;
  }
  await lease.commit();
  return result;
}

/** @param {unknown} error */
function isOver(error) {
  return error instanceof LeaseExpired || error instanceof LeaseNotFound || error instanceof Conflict;
}
