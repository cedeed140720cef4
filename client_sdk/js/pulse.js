/** Whether a connection still is one: a ping now and then, and a time by which it is answered. */

/** @import { Options } from "./options.js" */

/** The pings of one session after the other. Times in monotonic milliseconds. */
export class Pulse {
  #options;
  #heartbeatMs = 25_000;
  #pingAt = Infinity;
  #pongBy = Infinity;

  /** @param {Readonly<Options>} options */
  constructor(options) {
    this.#options = options;
  }

  /**
   * The gateway says how often it wants to hear something.
   * @param {number} heartbeatS
   */
  greeted(heartbeatS) {
    this.#heartbeatMs = Math.max(1, heartbeatS) * 1000;
  }

  /**
   * The next ping is due after about one heartbeat.
   * @param {number} now
   * @param {number} chance a random number in [0, 1)
   */
  schedule(now, chance) {
    const intervalMs = this.#options.pingIntervalMs ?? this.#heartbeatMs;
    this.#pingAt = now + intervalMs * (0.9 + 0.2 * chance);
  }

  /**
   * A ping was sent.
   * @param {number} now
   * @param {number} chance a random number in [0, 1)
   */
  sent(now, chance) {
    this.#pongBy = Math.min(this.#pongBy, now + this.#options.pongTimeoutMs);
    this.schedule(now, chance);
  }

  /**
   * Something came: the pong may be behind it.
   * @param {number} now
   */
  heard(now) {
    if (this.#pongBy !== Infinity) {
      this.#pongBy = now + this.#options.pongTimeoutMs;
    }
  }

  /** The pong came. */
  answered() {
    this.#pongBy = Infinity;
  }

  /** There is no connection. */
  stop() {
    this.#pongBy = this.#pingAt = Infinity;
  }

  /** Whether a ping is under way. */
  get isAwaited() {
    return this.#pongBy !== Infinity;
  }

  /**
   * Whether it is time for a ping.
   * @param {number} now
   */
  isDue(now) {
    return now >= this.#pingAt;
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
}
