/** @import { Data } from "./document.js" */
/** @import { ServerMessage, Snapshot, Update } from "./messages.js" */
/**
 * @typedef {object} Candidate A copy that has to be proved.
 * @property {readonly (Snapshot | Update)[]} messages where it comes from: the update or snapshot that is to be handed
 *   over, and before it those that lead there
 * @property {Data | null} base what was held when it was made; null for a whole document
 * @property {Data} data the copy
 * @property {string} text its canonical JSON: the SHA-256 of that is to be computed
 */
/** @typedef {{candidate: Candidate, rev: string}} Proof The revision of a candidate, computed. */
/**
 * A whole document, to be proved.
 * @param {Snapshot} message
 * @returns {Candidate}
 */
export function whole(message: Snapshot): Candidate;
/**
 * What an update leads to, and those of the messages behind it that go on from there, to be proved.
 * @param {Update} first
 * @param {Data} base what is held
 * @param {Iterable<ServerMessage>} following
 * @returns {Candidate}
 */
export function chain(first: Update, base: Data, following: Iterable<ServerMessage>): Candidate;
/**
 * The updates of a proof as one, if it is of what this one leads to.
 * @param {Proof | null} proof
 * @param {Update} message the last of them
 * @param {Data} base what is held now
 * @returns {Update} that message itself, if the proof is of something else
 */
export function joined(proof: Proof | null, message: Update, base: Data): Update;
/**
 * Whether a proof is of the copy that this message leads to.
 * @param {Proof | null} proof
 * @param {Snapshot | Update} message
 * @param {Data | null} base what is held now; null for a whole document
 * @returns {boolean}
 */
export function proves(proof: Proof | null, message: Snapshot | Update, base: Data | null): boolean;
/**
 * Whether a proof is of what these messages lead to, beginning with this one.
 * @param {Proof | null} proof
 * @param {Snapshot | Update} message
 * @param {Data | null} base what is held now; null for a whole document
 * @returns {boolean}
 */
export function beginsWith(proof: Proof | null, message: Snapshot | Update, base: Data | null): boolean;
/**
 * Whether the copy is what its revision says.
 * @param {Proof} proof
 * @returns {boolean}
 */
export function isRight({ candidate, rev }: Proof): boolean;
/**
 * A copy that has to be proved.
 */
export type Candidate = {
    /**
     * where it comes from: the update or snapshot that is to be handed
     * over, and before it those that lead there
     */
    messages: readonly (Snapshot | Update)[];
    /**
     * what was held when it was made; null for a whole document
     */
    base: Data | null;
    /**
     * the copy
     */
    data: Data;
    /**
     * its canonical JSON: the SHA-256 of that is to be computed
     */
    text: string;
};
/**
 * The revision of a candidate, computed.
 */
export type Proof = {
    candidate: Candidate;
    rev: string;
};
import type { Snapshot } from "./messages.js";
import type { Update } from "./messages.js";
import type { Data } from "./document.js";
import type { ServerMessage } from "./messages.js";
