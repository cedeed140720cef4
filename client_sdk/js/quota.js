/** A user's quotas and permissions as the document tells them. */

import { valueOf } from "./document.js";

/** @typedef {import("./document.js").Data} Data */
/** @typedef {import("./messages.js").Reply} Reply */

/**
 * @typedef {object} Quota One quota. Of an organization's pool `cap` is how much this member may take of it in a
 *   period, and `capRemaining` what is left of that; null without a cap.
 * @property {number} used units
 * @property {number} reserved units that leases hold
 * @property {number | null} limit null when it is unlimited
 * @property {number | null} remaining null when it is unlimited
 * @property {string} period
 * @property {boolean} hard a limit that is not may be passed
 * @property {string | null} resetsAt RFC 3339, UTC; null when it never resets
 * @property {string} level `ok`, `low` (80 % taken), `critical` (95 %) or `exhausted`
 * @property {number | null} cap
 * @property {number | null} capRemaining
 */

/**
 * @typedef {Quota & {quota: string, org: string | null, seq: number}} Balance What a quota stands at after something
 *   was spent. `quota` is its name, `org` the organization whose pool it is, `seq` the position of that commit in the
 *   change log: `Channel.waitFor` waits until the document shows it.
 */

/**
 * The balance that a reply tells of.
 * @param {Reply} reply
 * @returns {Balance}
 */
export function balanceOf(reply) {
  const { quota, org, seq, used, reserved, limit, remaining, period, hard, resetsAt, level, cap, capRemaining } = reply;
  return Object.freeze({
    quota,
    org,
    seq,
    used,
    reserved,
    limit,
    remaining,
    period,
    hard,
    resetsAt,
    level,
    cap,
    capRemaining,
  });
}

/** @typedef {Readonly<Record<string, Quota | undefined>>} Quotas Quotas by name; of no other name there is anything. */

/**
 * The same document gives the same object, so that whoever compares sees no change where none is.
 * @template T
 * @param {(document: Data) => T} read
 * @returns {(document: Data) => T}
 */
function once(read) {
  /** @type {WeakMap<Data, T>} */
  const known = new WeakMap();
  return (document) => {
    const value = known.get(document) ?? read(document);
    known.set(document, value);
    return value;
  };
}

/**
 * The quotas of a user's or an organization's document, by name; the same object for the same document.
 * @type {(document: Data) => Quotas}
 */
export const quotasOf = once((document) => {
  const quotas = Object.create(null);
  for (const [name, entry] of Object.entries(valueOf(document, "quotas") ?? {})) {
    quotas[name] = quotaOf(entry);
  }
  return Object.freeze(quotas);
});

/**
 * The permissions that a user's document grants; the same object for the same document.
 * @type {(document: Data) => ReadonlySet<string>}
 */
export const permissionsOf = once((document) => {
  const permissions = Object.entries(valueOf(document, "permissions") ?? {});
  return new Set(permissions.filter(([, granted]) => granted === true).map(([name]) => name));
});

/**
 * Whether a user's document grants this permission.
 * @param {Data} document
 * @param {string} permission
 * @returns {boolean}
 */
export function isGranted(document, permission) {
  return valueOf(valueOf(document, "permissions") ?? {}, permission) === true;
}

/**
 * @param {Data} entry
 * @returns {Quota}
 */
function quotaOf(entry) {
  return Object.freeze({
    used: entry.used ?? 0,
    reserved: entry.reserved ?? 0,
    limit: entry.limit ?? null,
    remaining: entry.remaining ?? null,
    period: entry.period ?? "",
    hard: entry.hard ?? false,
    resetsAt: entry.resets_at ?? null,
    level: entry.level ?? "ok",
    cap: entry.cap ?? null,
    capRemaining: entry.cap_remaining ?? null,
  });
}
