/** Whether a connection still is one: a ping now and then, and a time by which it is answered. */

/** @import { Options } from "./options.js" */

/** A connection that is in doubt answers sooner than one that is not. */
export const PROBE_MS = 2_500;

/**
 * The pings of one session after the other. Times in monotonic milliseconds.
 *
 * A connection of which nothing was heard for longer than a living one may be silent is in doubt, and so is one that
 * may have slept: what comes then may have been under way for long. Only the pong of a ping that was sent since, the
 * probe, shows that it lives.
 */
export class Pulse {
  #options;
  #ping;
  #heartbeatMs = 25_000;
  #pingAt = Infinity;
  #pongBy = Infinity;
  #heardAt = 0;
  /** @type {string | null} */
  #probe = null;
  #isDoubted = false;

  /**
   * @param {Readonly<Options>} options
   * @param {() => string} ping sends a ping and returns its id
   */
  constructor(options, ping) {
    this.#options = options;
    this.#ping = ping;
  }

  /**
   * The gateway says how often it wants to hear something.
   * @param {number} heartbeatS
   */
  greeted(heartbeatS) {
    this.#heartbeatMs = Math.max(1, heartbeatS) * 1000;
  }

  /**
   * A session is live.
   * @param {number} now
   * @param {number} chance a random number in [0, 1)
   */
  begin(now, chance) {
    this.stop();
    this.#heardAt = now;
    this.#schedule(now, chance);
  }

  /**
   * Send what is due.
   * @param {number} now
   * @param {number} chance a random number in [0, 1)
   */
  tick(now, chance) {
    this.check(now, chance);
    if (now >= this.#pingAt) {
      this.#ping();
      this.#await(now, this.#options.pongTimeoutMs);
      this.#schedule(now, chance);
    }
  }

  /**
   * After a long silence see whether the connection still is one.
   * @param {number} now
   * @param {number} chance a random number in [0, 1)
   */
  check(now, chance) {
    if (this.#isUnheard(now)) {
      this.#isDoubted = true;
      if (this.#probe === null) {
        this.probe(now, chance);
      }
    }
  }

  /**
   * The page goes on: see whether the connection still is one, and count it as none until then if it may have slept.
   * @param {number} now
   * @param {number} chance a random number in [0, 1)
   * @param {number} gapMs so much more time may have passed than the clock says
   */
  wake(now, chance, gapMs) {
    if (gapMs > 0 || now - this.#heardAt > this.#heartbeatMs) {
      this.#isDoubted = true;
    }
    if (gapMs > 0 || this.#probe === null) {
      this.probe(now, chance);
    }
  }

  /**
   * Send a ping whose pong alone shows that the connection lives.
   * @param {number} now
   * @param {number} chance a random number in [0, 1)
   */
  probe(now, chance) {
    this.#probe = this.#ping();
    this.#await(now, this.#patienceMs);
    this.#schedule(now, chance);
  }

  /**
   * Something came: the pong may be behind it.
   * @param {number} now
   */
  heard(now) {
    this.#heardAt = now;
    if (this.#pongBy !== Infinity) {
      this.#pongBy = now + this.#patienceMs;
    }
  }

  /**
   * A pong came; whether it shows that the connection lives.
   * @param {string | null} id
   * @returns {boolean}
   */
  answered(id) {
    if (this.#probe !== null && id !== this.#probe) {
      return false;
    }
    this.#probe = null;
    this.#isDoubted = false;
    this.#pongBy = Infinity;
    return true;
  }

  /** There is no connection. */
  stop() {
    this.#pongBy = this.#pingAt = Infinity;
    this.#probe = null;
    this.#isDoubted = false;
  }

  /**
   * Whether it has yet to be shown that the connection still is one.
   * @param {number} now
   */
  doubts(now) {
    return this.#isDoubted || this.#isUnheard(now);
  }

  /**
   * Whether the connection is none any more.
   * @param {number} now
   */
  isSilent(now) {
    return now >= this.#pongBy;
  }

  /** When there is something to do; infinite when there is not. */
  get deadline() {
    return Math.min(this.#pingAt, this.#pongBy);
  }

  /** How long an answer may take. */
  get #patienceMs() {
    const { pongTimeoutMs } = this.#options;
    return this.#probe === null ? pongTimeoutMs : Math.min(pongTimeoutMs, PROBE_MS);
  }

  /**
   * Whether nothing was heard for longer than a living connection is silent: two pings and an answer.
   * @param {number} now
   */
  #isUnheard(now) {
    const intervalMs = Math.max(this.#heartbeatMs, this.#options.pingIntervalMs ?? 0);
    return now - this.#heardAt > 2 * intervalMs + this.#options.pongTimeoutMs;
  }

  /**
   * @param {number} now
   * @param {number} delayMs
   */
  #await(now, delayMs) {
    this.#pongBy = Math.min(this.#pongBy, now + delayMs);
  }

  /**
   * The next ping is due after about one heartbeat.
   * @param {number} now
   * @param {number} chance
   */
  #schedule(now, chance) {
    const intervalMs = this.#options.pingIntervalMs ?? this.#heartbeatMs;
    this.#pingAt = now + intervalMs * (0.9 + 0.2 * chance);
  }
}
