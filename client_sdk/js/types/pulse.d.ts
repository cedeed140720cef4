/** Whether a connection still is one: a ping now and then, and a time by which it is answered. */
/** @import { Options } from "./options.js" */
/** A connection that is in doubt answers sooner than one that is not. */
export const PROBE_MS: 2500;
/**
 * The pings of one session after the other. Times in monotonic milliseconds.
 *
 * A connection of which nothing was heard for longer than a living one may be silent is in doubt, and so is one that
 * may have slept: what comes then may have been under way for long. Only the pong of a ping that was sent since, the
 * probe, shows that it lives.
 */
export class Pulse {
    /**
     * @param {Readonly<Options>} options
     * @param {() => string} ping sends a ping and returns its id
     */
    constructor(options: Readonly<Options>, ping: () => string);
    /**
     * The gateway says how often it wants to hear something.
     * @param {number} heartbeatS
     */
    greeted(heartbeatS: number): void;
    /**
     * A session is live.
     * @param {number} now
     * @param {number} chance a random number in [0, 1)
     */
    begin(now: number, chance: number): void;
    /**
     * Send what is due.
     * @param {number} now
     * @param {number} chance a random number in [0, 1)
     */
    tick(now: number, chance: number): void;
    /**
     * After a long silence see whether the connection still is one.
     * @param {number} now
     * @param {number} chance a random number in [0, 1)
     */
    check(now: number, chance: number): void;
    /**
     * The page goes on: see whether the connection still is one, and count it as none until then if it may have slept.
     * @param {number} now
     * @param {number} chance a random number in [0, 1)
     * @param {number} gapMs so much more time may have passed than the clock says
     */
    wake(now: number, chance: number, gapMs: number): void;
    /**
     * Send a ping whose pong alone shows that the connection lives.
     * @param {number} now
     * @param {number} chance a random number in [0, 1)
     */
    probe(now: number, chance: number): void;
    /**
     * Something came: the pong may be behind it.
     * @param {number} now
     */
    heard(now: number): void;
    /**
     * A pong came; whether it shows that the connection lives.
     * @param {string | null} id
     * @returns {boolean}
     */
    answered(id: string | null): boolean;
    /** There is no connection. */
    stop(): void;
    /**
     * Whether it has yet to be shown that the connection still is one.
     * @param {number} now
     */
    doubts(now: number): boolean;
    /**
     * Whether the connection is none any more.
     * @param {number} now
     */
    isSilent(now: number): boolean;
    /** When there is something to do; infinite when there is not. */
    get deadline(): number;
    #private;
}
import type { Options } from "./options.js";
