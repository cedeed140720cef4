export { Condition };
/** The whole life of a channel, over any number of connections. */
export class Session {
    /** @param {Readonly<Options>} options see `makeOptions` */
    constructor(options: Readonly<Options>);
    /**
     * How it behaves.
     * @returns {Readonly<Options>}
     */
    get options(): Readonly<Options>;
    /**
     * Where it stands.
     * @returns {Condition}
     */
    get condition(): Condition;
    /**
     * The gateway's name of the present session, or of the last one.
     * @returns {string | null}
     */
    get id(): string | null;
    /**
     * The numbering of the change log, by the name that the gateway gave it last.
     * @returns {string | null}
     */
    get epoch(): string | null;
    /**
     * How many frames were no messages.
     * @returns {number}
     */
    get malformed(): number;
    /**
     * Who this is, `user:ID` or `instance:ID`; null before the first connection.
     * @returns {string | null}
     */
    get principal(): string | null;
    /**
     * The documents that are watched.
     * @returns {Replica}
     */
    get replica(): Replica;
    /**
     * The own document, if it is watched and its name is known.
     * @returns {Held | null}
     */
    get own(): Held | null;
    /**
     * When the credential ends (RFC 3339), as the gateway said; null: never, or not known.
     * @returns {string | null}
     */
    get expiresAt(): string | null;
    /**
     * Whether every watched document came on this connection.
     * @returns {boolean}
     */
    complete(): boolean;
    /**
     * The canonical name of a document: `self` is the own one, once it is known who that is.
     * @param {string} name
     * @returns {string}
     */
    resolve(name: string): string;
    /**
     * How true everything held is.
     * @param {number} now monotonic milliseconds
     * @returns {Freshness}
     */
    freshness(now: number): Freshness;
    /**
     * When a `tick` is due, in milliseconds of the clock that `handle` is given; infinite when none is.
     * @returns {number}
     */
    get deadline(): number;
    /**
     * What has to be proved before this frame is handed over: the SHA-256 of `text`, by what is held now. Null when there
     * is nothing to prove, or `proof` is of just that. While the digest is computed other events may come, so ask again
     * with the proof until the answer is null, and then hand frame and proof over at once.
     * @param {unknown} frame
     * @param {Proof | null} [proof]
     * @param {Iterable<unknown>} [following] the frames that came after it: what one digest proves with it need not be
     *   proved again
     * @returns {Candidate | null}
     */
    candidate(frame: unknown, proof?: Proof | null, following?: Iterable<unknown>): Candidate | null;
    /**
     * What a frame says; null for what is no message, or none of this protocol.
     * @param {unknown} frame
     * @returns {ServerMessage | null}
     */
    read(frame: unknown): ServerMessage | null;
    /**
     * Take an event.
     * @param {Event} event
     * @param {number} now monotonic milliseconds
     * @param {number} chance a random number in [0, 1)
     * @returns {Readonly<Effect>[]} what to do, in this order
     */
    handle(event: Event, now: number, chance: number): Readonly<Effect>[];
    #private;
}
import { Condition } from "./life.js";
import type { Options } from "./options.js";
import type { Replica } from "./replica.js";
import type { Held } from "./held.js";
import type { Freshness } from "./freshness.js";
import type { Proof } from "./proof.js";
import type { Candidate } from "./proof.js";
import type { ServerMessage } from "./messages.js";
import type { Event } from "./events.js";
import type { Effect } from "./events.js";
