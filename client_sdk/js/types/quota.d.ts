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
export function balanceOf(reply: Reply): Balance;
/**
 * Whether a user's document grants this permission.
 * @param {Data} document
 * @param {string} permission
 * @returns {boolean}
 */
export function isGranted(document: Data, permission: string): boolean;
/**
 * The quotas of a user's or an organization's document, by name; the same object for the same document.
 * @type {(document: Data) => Quotas}
 */
export const quotasOf: (document: Data) => Quotas;
/**
 * The permissions that a user's document grants; the same object for the same document.
 * @type {(document: Data) => ReadonlySet<string>}
 */
export const permissionsOf: (document: Data) => ReadonlySet<string>;
export type Data = import("./document.js").Data;
export type Reply = import("./messages.js").Reply;
/**
 * One quota. Of an organization's pool `cap` is how much this member may take of it in a
 *   period, and `capRemaining` what is left of that; null without a cap.
 */
export type Quota = {
    /**
     * units
     */
    used: number;
    /**
     * units that leases hold
     */
    reserved: number;
    /**
     * null when it is unlimited
     */
    limit: number | null;
    /**
     * null when it is unlimited
     */
    remaining: number | null;
    period: string;
    /**
     * a limit that is not may be passed
     */
    hard: boolean;
    /**
     * RFC 3339, UTC; null when it never resets
     */
    resetsAt: string | null;
    /**
     * `ok`, `low` (80 % taken), `critical` (95 %) or `exhausted`
     */
    level: string;
    cap: number | null;
    capRemaining: number | null;
};
/**
 * What a quota stands at after something
 *   was spent. `quota` is its name, `org` the organization whose pool it is, `seq` the position of that commit in the
 *   change log: `Channel.waitFor` waits until the document shows it.
 */
export type Balance = Quota & {
    quota: string;
    org: string | null;
    seq: number;
};
/**
 * Quotas by name; of no other name there is anything.
 */
export type Quotas = Readonly<Record<string, Quota | undefined>>;
