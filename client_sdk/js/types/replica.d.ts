/**
 * All documents that are watched, by their canonical names.
 *
 * On one connection a document never goes back in the change log, except by the answer to a sync: then the gateway's
 * database is an older one. Every copy is verified by its revision, unless `verify` is off; `mismatches` counts what
 * was not what it said to be.
 */
export class Replica {
    /** @param {{verify?: boolean}} [options] */
    constructor({ verify }?: {
        verify?: boolean;
    });
    /** How many copies were not what their revision said. */
    mismatches: number;
    /**
     * Whether a document is watched.
     * @param {string} doc
     * @returns {boolean}
     */
    has(doc: string): boolean;
    /**
     * The document if it is watched.
     * @param {string} doc
     * @returns {Held | null}
     */
    get(doc: string): Held | null;
    /**
     * Every document that is held, by its name.
     * @returns {Readonly<Record<string, Data>>}
     */
    documents(): Readonly<Record<string, Data>>;
    /**
     * Every document that is held, as the change from nothing to it.
     * @returns {Change[]}
     */
    changes(): Change[];
    /**
     * Why not every watched document is known to be a true copy; null when each is.
     * @returns {"document" | "unverified" | null}
     */
    amiss(): "document" | "unverified" | null;
    /**
     * Whether one of these documents (null: of all) did not come yet on this connection.
     * @param {Iterable<string> | null} [docs]
     * @returns {boolean}
     */
    awaited(docs?: Iterable<string> | null): boolean;
    /**
     * The documents that the gateway did not send on this connection, or of which its `gone` was lost.
     * @param {ReadonlyMap<string, string>} revs
     * @returns {string[]}
     */
    missing(revs: ReadonlyMap<string, string>): string[];
    /**
     * These documents are to come once more; until then nobody knows how they are.
     * @param {Iterable<string>} docs
     */
    expectAgain(docs: Iterable<string>): void;
    /**
     * Watch a document; what is held already stays.
     * @param {string} doc
     */
    expect(doc: string): void;
    /**
     * Watch a document no longer.
     * @param {string} doc
     * @returns {Change | null}
     */
    forget(doc: string): Change | null;
    /** The connection is gone: nothing is known to be exact any more, but everything is kept. */
    disconnect(): void;
    /**
     * The gateway says that it can not, or can again, know how this document is.
     * @param {string} doc
     * @param {boolean} isStale
     */
    markStale(doc: string, isStale: boolean): void;
    /**
     * Mark a document as perhaps not exact; false when it is marked already, or not watched.
     * @param {string} doc
     * @returns {boolean}
     */
    suspect(doc: string): boolean;
    /**
     * Whether a document is perhaps not exact.
     * @param {string} doc
     * @returns {boolean}
     */
    suspected(doc: string): boolean;
    /**
     * The reply to a sync came: the next snapshot is what it asked for.
     * @param {string} doc
     */
    expectAnswer(doc: string): void;
    /**
     * The copy that this message leads to, if it has to be proved and `proof` does not.
     * @param {ServerMessage} message
     * @param {Proof | null} proof
     * @param {Iterable<ServerMessage>} following what came after it, to be proved with it as far as it can
     * @returns {Candidate | null}
     */
    candidate(message: ServerMessage, proof: Proof | null, following: Iterable<ServerMessage>): Candidate | null;
    /**
     * A whole document replaces what is held.
     *
     * One that is not what its revision says is asked for once more; if the answer is no better, it is the best there is,
     * and unverified.
     * @param {Snapshot} message
     * @param {Proof | null} proof
     * @returns {Outcome}
     */
    snapshot(message: Snapshot, proof: Proof | null): Outcome;
    /**
     * A patch applies if and only if it starts from the revision held and leads to the one it names. The proof may be of
     * several that follow each other: then `message` is the last of them.
     * @param {Update} message
     * @param {Proof | null} proof
     * @returns {Outcome}
     */
    update(message: Update, proof: Proof | null): Outcome;
    /**
     * The revision that was named at connecting still counts.
     * @param {Current} message
     * @returns {Outcome}
     */
    current(message: Current): Outcome;
    /**
     * The documents of which the gateway sent another revision last than is held; those that agree are exact.
     * @param {ReadonlyMap<string, string>} revs
     * @returns {string[]}
     */
    compare(revs: ReadonlyMap<string, string>): string[];
    /** The names of those that are watched. */
    [Symbol.iterator](): ArrayIterator<string>;
    #private;
}
/**
 * What a message about a document led to.
 */
export type Outcome = {
    /**
     * for the application
     */
    change: Change | null;
    /**
     * whether to ask for the document whole
     */
    sync: boolean;
    /**
     * whether this was the snapshot that a sync asked for
     */
    answered: boolean;
};
import { Held } from "./held.js";
import type { Data } from "./document.js";
import type { Change } from "./events.js";
import type { ServerMessage } from "./messages.js";
import type { Proof } from "./proof.js";
import type { Candidate } from "./proof.js";
import type { Snapshot } from "./messages.js";
import type { Update } from "./messages.js";
import type { Current } from "./messages.js";
