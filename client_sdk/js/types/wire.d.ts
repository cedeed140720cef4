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
export function encode(message: ClientMessage): string;
/**
 * Read a frame of the gateway.
 * @param {unknown} frame
 * @returns {ServerMessage | null} null for an operation that this SDK does not know
 * @throws {MalformedMessage} it is no message
 */
export function decode(frame: unknown): ServerMessage | null;
/**
 * What an application is told of a failed request.
 * @param {ErrorMessage} message
 * @returns {ChannelError}
 */
export function errorOf({ code, message, retryAfterS, doc, quota, remaining, resetsAt }: ErrorMessage): ChannelError;
/** @typedef {import("./errors.js").ChannelError} ChannelError */
/** @typedef {import("./messages.js").ErrorMessage} ErrorMessage */
/** @typedef {import("./messages.js").Reply} Reply */
/** @typedef {import("./messages.js").ServerMessage} ServerMessage */
/** @typedef {import("./options.js").ClientInfo} ClientInfo */
/** What is spoken: UTF-8 JSON in text frames. */
export const SUBPROTOCOL: "gateway.v1+json";
/**
 * Opens the session as the first message, or renews its credential later.
 */
export type Auth = {
    op: "auth";
    token: string;
    watch?: readonly string[] | undefined;
    id?: string | undefined;
    client?: import("./options.js").ClientInfo | undefined;
    last_end?: string | undefined;
};
/**
 * Watch documents, each `DOC` or `DOC@REV`.
 */
export type Watch = {
    op: "watch";
    id: string;
    docs: readonly string[];
};
/**
 * Stop watching documents.
 */
export type Unwatch = {
    op: "unwatch";
    id: string;
    docs: readonly string[];
};
/**
 * Ask for one watched document whole.
 */
export type Sync = {
    op: "sync";
    id: string;
    doc: string;
};
/**
 * Ask for a sign of life and the revisions that the gateway sent last.
 */
export type Ping = {
    op: "ping";
    id: string;
};
/**
 * Take
 *   `amount` units of a quota, all or none; `key` makes it one request however often it is sent.
 */
export type Consume = {
    op: "consume";
    id: string;
    quota: string;
    amount: number;
    key: string;
    org?: string;
};
/**
 * Hold units for `ttl_s` seconds, in a lease whose name the client chooses.
 */
export type Reserve = {
    op: "reserve";
    id: string;
    lease: string;
    quota: string;
    amount: number;
    ttl_s: number;
    org?: string;
};
/**
 * Hold a
 *   lease for `ttl_s` seconds from now, and add `amount` units; adding takes a key.
 */
export type Extend = {
    op: "extend";
    id: string;
    lease: string;
    ttl_s: number;
    amount?: number;
    key?: string;
};
/**
 * Count `amount` units of a lease as used
 *   and give back the rest.
 */
export type Commit = {
    op: "commit";
    id: string;
    lease: string;
    amount: number;
};
/**
 * Give back all that a lease holds.
 */
export type Release = {
    op: "release";
    id: string;
    lease: string;
};
/**
 * What may be sent any number of times and is
 *   carried out once.
 */
export type SpendingMessage = Consume | Reserve | Extend | Commit | Release;
export type ClientMessage = Auth | Watch | Unwatch | Sync | Ping | SpendingMessage;
export type ChannelError = import("./errors.js").ChannelError;
export type ErrorMessage = import("./messages.js").ErrorMessage;
export type Reply = import("./messages.js").Reply;
export type ServerMessage = import("./messages.js").ServerMessage;
export type ClientInfo = import("./options.js").ClientInfo;
