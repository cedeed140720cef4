/**
 * The messages of the channel protocol as the client sees them, and the codec of `gateway.v1+json`.
 *
 * A frame holds one message: an object with `op`. Fields without a value are absent, never null. What the gateway may
 * add later, operations and fields alike, is ignored. Names of what is received are as in JavaScript (`expiresAt`).
 */

import { MalformedMessage, QuotaExceeded, requestError } from "./errors.js";
import { MESSAGES } from "./messages.js";

/** @typedef {import("./errors.js").ChannelError} ChannelError */
/** @typedef {import("./messages.js").ErrorMessage} ErrorMessage */
/** @typedef {import("./messages.js").Reply} Reply */
/** @typedef {import("./messages.js").ServerMessage} ServerMessage */
/** @typedef {import("./options.js").ClientInfo} ClientInfo */

/** What is spoken: UTF-8 JSON in text frames. */
export const SUBPROTOCOL = "gateway.v1+json";
// How deeply a message may be nested.
const DEEPEST = 950;
const HALF = /\p{Surrogate}/u; // has no UTF-8

// --- to the gateway --------------------------------------------------------------------------------------------------

/**
 * @typedef {object} Auth Opens the session as the first message, or renews its credential later.
 * @property {"auth"} op
 * @property {string} token
 * @property {readonly string[]} [watch]
 * @property {string} [id]
 * @property {ClientInfo} [client]
 * @property {string} [last_end]
 */
/** @typedef {{op: "watch", id: string, docs: readonly string[]}} Watch Watch documents, each `DOC` or `DOC@REV`. */
/** @typedef {{op: "unwatch", id: string, docs: readonly string[]}} Unwatch Stop watching documents. */
/** @typedef {{op: "sync", id: string, doc: string}} Sync Ask for one watched document whole. */
/** @typedef {{op: "ping", id: string}} Ping Ask for a sign of life and the revisions that the gateway sent last. */
/**
 * @typedef {{op: "consume", id: string, quota: string, amount: number, key: string, org?: string}} Consume Take
 *   `amount` units of a quota, all or none; `key` makes it one request however often it is sent.
 */
/**
 * @typedef {{op: "reserve", id: string, lease: string, quota: string, amount: number, ttl_s: number,
 *   org?: string}} Reserve Hold units for `ttl_s` seconds, in a lease whose name the client chooses.
 */
/**
 * @typedef {{op: "extend", id: string, lease: string, ttl_s: number, amount?: number, key?: string}} Extend Hold a
 *   lease for `ttl_s` seconds from now, and add `amount` units; adding takes a key.
 */
/**
 * @typedef {{op: "commit", id: string, lease: string, amount: number}} Commit Count `amount` units of a lease as used
 *   and give back the rest.
 */
/** @typedef {{op: "release", id: string, lease: string}} Release Give back all that a lease holds. */

/**
 * @typedef {Consume | Reserve | Extend | Commit | Release} SpendingMessage What may be sent any number of times and is
 *   carried out once.
 */
/** @typedef {Auth | Watch | Unwatch | Sync | Ping | SpendingMessage} ClientMessage */

/**
 * Write a message; fields that are undefined are left out.
 * @param {ClientMessage} message
 * @returns {string}
 */
export function encode(message) {
  return JSON.stringify(message);
}

// --- from the gateway ------------------------------------------------------------------------------------------------

/**
 * Read a frame of the gateway.
 * @param {unknown} frame
 * @returns {ServerMessage | null} null for an operation that this SDK does not know
 * @throws {MalformedMessage} it is no message
 */
export function decode(frame) {
  if (typeof frame !== "string") {
    throw new MalformedMessage(`not a frame of ${SUBPROTOCOL}`);
  }
  const message = parse(frame);
  const op = Object.hasOwn(message, "op") ? message.op : undefined;
  if (typeof op !== "string") {
    throw new MalformedMessage("not a valid message: op is a text");
  }
  const fields = MESSAGES.get(op);
  if (fields === undefined) {
    return null;
  }
  const read = Object.entries(fields).map(([name, field]) => [field.as, field.read(message, name)]);
  return Object.freeze({ op, ...Object.fromEntries(read) });
}

/**
 * @param {string} frame
 * @returns {Record<string, unknown>}
 */
function parse(frame) {
  let value;
  try {
    value = JSON.parse(frame);
  } catch (error) {
    throw new MalformedMessage("the frame can not be read", { cause: error });
  }
  if (value === null || typeof value !== "object" || Array.isArray(value)) {
    throw new MalformedMessage("not a valid message: it is an object");
  }
  if (!isReadable(value, DEEPEST)) {
    throw new MalformedMessage("the frame can not be read");
  }
  return value;
}

/**
 * Whether every text is one that UTF-8 can hold, and nothing is nested too deeply.
 * @param {unknown} value
 * @param {number} depth how many levels may follow
 * @returns {boolean}
 */
function isReadable(value, depth) {
  if (typeof value === "string") {
    return !HALF.test(value);
  }
  if (value === null || typeof value !== "object") {
    return true;
  }
  if (depth === 0) {
    return false;
  }
  if (Array.isArray(value)) {
    return value.every((inner) => isReadable(inner, depth - 1));
  }
  return Object.entries(value).every(([name, inner]) => !HALF.test(name) && isReadable(inner, depth - 1));
}

/**
 * What an application is told of a failed request.
 * @param {ErrorMessage} message
 * @returns {ChannelError}
 */
export function errorOf({ code, message, retryAfterS, doc, quota, remaining, resetsAt }) {
  if (code === QuotaExceeded.defaultCode) {
    return new QuotaExceeded(message, { quota: quota ?? "", remaining: remaining ?? 0, resetsAt });
  }
  return requestError(code, message, { retryAfterS, doc });
}
