/** Whether a connection still is one: a ping now and then, and a time by which it is answered. */
/** @import { Options } from "./options.js" */
/** The pings of one session after the other. Times in monotonic milliseconds. */
export class Pulse {
    /** @param {Readonly<Options>} options */
    constructor(options: Readonly<Options>);
    /**
     * The gateway says how often it wants to hear something.
     * @param {number} heartbeatS
     */
    greeted(heartbeatS: number): void;
    /**
     * The next ping is due after about one heartbeat.
     * @param {number} now
     * @param {number} chance a random number in [0, 1)
     */
    schedule(now: number, chance: number): void;
    /**
     * A ping was sent.
     * @param {number} now
     * @param {number} chance a random number in [0, 1)
     */
    sent(now: number, chance: number): void;
    /**
     * Something came: the pong may be behind it.
     * @param {number} now
     */
    heard(now: number): void;
    /** The pong came. */
    answered(): void;
    /** There is no connection. */
    stop(): void;
    /** Whether a ping is under way. */
    get isAwaited(): boolean;
    /**
     * Whether it is time for a ping.
     * @param {number} now
     */
    isDue(now: number): boolean;
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
