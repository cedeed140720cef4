/** What proves that a copy is what its revision says: a digest, which can only be computed asynchronously. */

import { apply, canonical } from "./document.js";

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
export function whole(message) {
  const { data } = message;
  return { messages: [message], base: null, data, text: canonical(data) };
}

/**
 * What an update leads to, and those of the messages behind it that go on from there, to be proved.
 * @param {Update} first
 * @param {Data} base what is held
 * @param {Iterable<ServerMessage>} following
 * @returns {Candidate}
 */
export function chain(first, base, following) {
  const messages = [first];
  let data = apply(base, first.patch);
  let last = first;
  for (const message of following) {
    if (!("doc" in message) || message.doc !== first.doc || message.op === "current" || message.op === "reply") {
      continue;
    }
    if (message.op !== "update" || message.from !== last.rev || message.seq < last.seq) {
      break;
    }
    data = apply(data, message.patch);
    messages.push(message);
    last = message;
  }
  return { messages, base, data, text: canonical(data) };
}

/**
 * The updates of a proof as one, if it is of what this one leads to.
 * @param {Proof | null} proof
 * @param {Update} message the last of them
 * @param {Data} base what is held now
 * @returns {Update} that message itself, if the proof is of something else
 */
export function joined(proof, message, base) {
  if (proof === null || proof.candidate.messages.length === 1 || !proves(proof, message, base)) {
    return message;
  }
  const updates = /** @type {readonly Update[]} */ (proof.candidate.messages);
  return { ...message, from: updates[0].from, causes: [...new Set(updates.flatMap(({ causes }) => causes))] };
}

/**
 * Whether a proof is of the copy that this message leads to.
 * @param {Proof | null} proof
 * @param {Snapshot | Update} message
 * @param {Data | null} base what is held now; null for a whole document
 * @returns {boolean}
 */
export function proves(proof, message, base) {
  return proof !== null && proof.candidate.base === base && proof.candidate.messages.at(-1) === message;
}

/**
 * Whether a proof is of what these messages lead to, beginning with this one.
 * @param {Proof | null} proof
 * @param {Snapshot | Update} message
 * @param {Data | null} base what is held now; null for a whole document
 * @returns {boolean}
 */
export function beginsWith(proof, message, base) {
  return proof !== null && proof.candidate.base === base && proof.candidate.messages[0] === message;
}

/**
 * Whether the copy is what its revision says.
 * @param {Proof} proof
 * @returns {boolean}
 */
export function isRight({ candidate, rev }) {
  return candidate.messages.at(-1)?.rev === rev;
}
