/**
 * What lasts over the connections of a session: who is spoken to, what is known, and how long to wait for the next one.
 */

import { Conversation } from "./conversation.js";
import { Credential } from "./credential.js";
import { Disconnected } from "./errors.js";
import { FreshnessMeter } from "./freshness.js";
import { Pulse } from "./pulse.js";
import { Backoff, Reconnect } from "./reconnect.js";

/** @import { ChannelError } from "./errors.js" */
/** @import { Effect } from "./events.js" */
/** @import { Freshness } from "./freshness.js" */
/** @import { Options } from "./options.js" */
/** @import { End } from "./reconnect.js" */

/**
 * Where a session stands; see the diagram of `Machine`.
 * @enum {string}
 */
export const Condition = Object.freeze({
  IDLE: "idle",
  ASKING: "asking",
  CONNECTING: "connecting",
  GREETING: "greeting",
  LIVE: "live",
  WAITING: "waiting",
  STOPPED: "stopped",
});

/** The part of a `Machine` that leaves connections and waits for others. Times in monotonic milliseconds. */
export class Life {
  /**
   * @param {Readonly<Options>} options
   * @param {Effect[]} effects what it wants goes in here
   */
  constructor(options, effects) {
    this.options = options;
    this.effects = effects;
    /** @type {Condition} */
    this.condition = Condition.IDLE;
    /** @type {string | null} */
    this.id = null;
    /** @type {string | null} */
    this.epoch = null;
    this.malformed = 0;
    this.now = 0;
    this.chance = 0;
    /** When the present condition has lasted long enough, or too long. */
    this.until = Infinity;
    /** Until when a wait may not be cut short. */
    this.notBefore = Infinity;
    this.liveSince = 0;
    /** @type {string | null} */
    this.lastEnd = null;
    this.networkIsGone = false;
    /**
     * Over how many milliseconds to spread the next wait, which nothing but chance and the gateway makes longer; null
     * for one that is as long as it is.
     * @type {number | null}
     */
    this.haste = null;
    /**
     * What it ended with for good.
     * @type {ChannelError | null}
     */
    this.fault = null;
    this.talk = new Conversation(options.watch, effects, options);
    this.credential = new Credential(options.tokenTimeoutMs);
    this.meter = new FreshnessMeter();
    this.pulse = new Pulse(options, () => this.talk.ping());
    this.backoff = new Backoff(options.backoffBaseMs, options.backoffCapMs, options.stableMs);
  }

  /** When the credential ends (RFC 3339), as the gateway said. */
  get expiresAt() {
    return this.credential.expiresAt;
  }

  /**
   * How true everything held is.
   * @param {number} now
   * @returns {Freshness}
   */
  freshness(now) {
    if (this.condition !== Condition.LIVE) {
      return this.meter.read(this.lastEnd || "connecting", null, now);
    }
    const amiss = this.pulse.doubts(now) ? "silence" : this.talk.replica.amiss();
    return this.meter.read(this.networkIsGone ? "network" : null, amiss, now);
  }

  /**
   * Say so if everything is more true than before, or less.
   * @param {number} now
   */
  reportFreshness(now) {
    const freshness = this.freshness(now);
    if (this.meter.changed(freshness, now)) {
      this.effects.push({ type: "freshnessChanged", freshness });
    }
  }

  /**
   * The connection ended, or the attempt to make one.
   * @param {End} end
   * @param {number | null} [closeCode]
   */
  leave(end, closeCode = null) {
    if (!this.hasSocket()) {
      return;
    }
    const livedMs = this.condition === Condition.LIVE ? this.now - this.liveSince : 0;
    this.lastEnd = end.code;
    if (closeCode !== null) {
      this.hangUp(closeCode, end.code);
    }
    const error = end.error();
    if (end.reconnect === Reconnect.NEVER) {
      this.stop(error);
      return;
    }
    this.talk.lose(error instanceof Disconnected ? error : new Disconnected(end.message, { code: end.code }));
    if (end.isFailure) {
      this.effects.push({ type: "trouble", error });
    }
    this.credential.settle();
    if (end.reconnect === Reconnect.NEW_CREDENTIAL) {
      this.credential.refuse();
    }
    const waitMs = this.backoff.after(end, livedMs, this.chance);
    this.wait(waitMs, end.reconnect === Reconnect.LATER ? waitMs : end.retryAfterS * 1000);
  }

  /**
   * Close the socket, if there is one.
   * @param {number} closeCode
   * @param {string} reason
   */
  hangUp(closeCode, reason) {
    if (this.hasSocket()) {
      this.effects.push({ type: "close", code: closeCode, reason });
    }
  }

  /** Whether there is a socket, or soon will be. */
  hasSocket() {
    const condition = this.condition;
    return condition === Condition.CONNECTING || condition === Condition.GREETING || condition === Condition.LIVE;
  }

  /**
   * Wait before the next connection.
   * @param {number} waitMs
   * @param {number} leastMs how much of that nothing can cut short
   */
  wait(waitMs, leastMs) {
    this.condition = Condition.WAITING;
    this.until = this.now + waitMs;
    this.notBefore = this.now + leastMs;
    this.pulse.stop();
    if (this.haste !== null) {
      this.until = Math.max(this.until, this.now + this.chance * this.haste);
      this.hurry(this.haste);
    }
    this.haste = null;
  }

  /**
   * The wait ends soon, as far as neither the gateway nor a refused token wants it longer; and if it is over, those who
   * wake together do not come back together.
   * @param {number} spreadMs
   */
  hurry(spreadMs) {
    const jitterMs = this.chance * spreadMs;
    const soon = this.now + jitterMs;
    const until = this.until <= this.now ? soon : this.until;
    this.until = Math.min(until, Math.max(this.notBefore + jitterMs, soon));
  }

  /**
   * It is over for good.
   * @param {ChannelError | null} error
   */
  stop(error) {
    this.condition = Condition.STOPPED;
    this.until = Infinity;
    this.fault = error;
    this.talk.stop(error);
    this.reportFreshness(this.now);
    this.effects.push({ type: "stopped", error });
  }
}
