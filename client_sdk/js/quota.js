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

/**
 * The quotas of a user's or an organization's document, by name.
 * @param {Data} document
 * @returns {Readonly<Record<string, Quota>>}
 */
export function quotasOf(document) {
  const quotas = Object.entries(valueOf(document, "quotas") ?? {});
  return Object.freeze(Object.fromEntries(quotas.map(([name, entry]) => [name, quotaOf(entry)])));
}

/**
 * The permissions that a user's document grants.
 * @param {Data} document
 * @returns {ReadonlySet<string>}
 */
export function permissionsOf(document) {
  const permissions = Object.entries(valueOf(document, "permissions") ?? {});
  return new Set(permissions.filter(([, granted]) => granted === true).map(([name]) => name));
}

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
