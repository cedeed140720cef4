/**
 * Where a session stands; see the diagram of `Machine`.
 */
export type Condition = string;
/** @import { ChannelError } from "./errors.js" */
/** @import { Effect } from "./events.js" */
/** @import { Freshness } from "./freshness.js" */
/** @import { Options } from "./options.js" */
/** @import { End } from "./reconnect.js" */
/**
 * Where a session stands; see the diagram of `Machine`.
 * @enum {string}
 */
export const Condition: Readonly<{
    IDLE: "idle";
    ASKING: "asking";
    CONNECTING: "connecting";
    GREETING: "greeting";
    LIVE: "live";
    WAITING: "waiting";
    STOPPED: "stopped";
}>;
/** The part of a `Machine` that leaves connections and waits for others. Times in monotonic milliseconds. */
export class Life {
    /**
     * @param {Readonly<Options>} options
     * @param {Effect[]} effects what it wants goes in here
     */
    constructor(options: Readonly<Options>, effects: Effect[]);
    options: Readonly<Options>;
    effects: Effect[];
    /** @type {Condition} */
    condition: Condition;
    /** @type {string | null} */
    id: string | null;
    /** @type {string | null} */
    epoch: string | null;
    malformed: number;
    now: number;
    chance: number;
    /** When the present condition has lasted long enough, or too long. */
    until: number;
    /** Until when a wait may not be cut short. */
    notBefore: number;
    liveSince: number;
    /** @type {string | null} */
    lastEnd: string | null;
    networkIsGone: boolean;
    /**
     * Over how many milliseconds to spread the next wait, which nothing but chance and the gateway makes longer; null
     * for one that is as long as it is.
     * @type {number | null}
     */
    haste: number | null;
    /**
     * What it ended with for good.
     * @type {ChannelError | null}
     */
    fault: ChannelError | null;
    talk: Conversation;
    credential: Credential;
    meter: FreshnessMeter;
    pulse: Pulse;
    backoff: Backoff;
    /** When the credential ends (RFC 3339), as the gateway said. */
    get expiresAt(): string | null;
    /**
     * How true everything held is.
     * @param {number} now
     * @returns {Freshness}
     */
    freshness(now: number): Freshness;
    /**
     * Say so if everything is more true than before, or less.
     * @param {number} now
     */
    reportFreshness(now: number): void;
    /**
     * The connection ended, or the attempt to make one.
     * @param {End} end
     * @param {number | null} [closeCode]
     */
    leave(end: End, closeCode?: number | null): void;
    /**
     * Close the socket, if there is one.
     * @param {number} closeCode
     * @param {string} reason
     */
    hangUp(closeCode: number, reason: string): void;
    /** Whether there is a socket, or soon will be. */
    hasSocket(): boolean;
    /**
     * Wait before the next connection.
     * @param {number} waitMs
     * @param {number} leastMs how much of that nothing can cut short
     */
    wait(waitMs: number, leastMs: number): void;
    /**
     * The wait ends soon, as far as neither the gateway nor a refused token wants it longer; and if it is over, those who
     * wake together do not come back together.
     * @param {number} spreadMs
     */
    hurry(spreadMs: number): void;
    /**
     * It is over for good.
     * @param {ChannelError | null} error
     */
    stop(error: ChannelError | null): void;
}
import type { Options } from "./options.js";
import type { Effect } from "./events.js";
import type { ChannelError } from "./errors.js";
import { Conversation } from "./conversation.js";
import { Credential } from "./credential.js";
import { FreshnessMeter } from "./freshness.js";
import { Pulse } from "./pulse.js";
import { Backoff } from "./reconnect.js";
import type { Freshness } from "./freshness.js";
import type { End } from "./reconnect.js";
