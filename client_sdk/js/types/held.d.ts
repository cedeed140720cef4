/**
 * Whether a whole document may replace what is held: on one connection nothing goes back, unless it was asked for.
 * @param {Held} held
 * @param {Snapshot} message
 * @returns {boolean}
 */
export function isNext(held: Held, message: Snapshot): boolean;
/**
 * Whether a patch starts from what is held.
 * @param {Held} held
 * @param {Update} message
 * @returns {boolean}
 */
export function fits(held: Held, message: Update): boolean;
/**
 * Hold another copy.
 * @param {Held} held
 * @param {Snapshot | Update} message
 * @param {Data} data
 * @returns {Change | null}
 */
export function replace(held: Held, message: Snapshot | Update, data: Data): Change | null;
/**
 * What is known about one document on this connection.
 *
 *     AWAITED ──snapshot, current──▶ EXACT ◀──answer to sync──▶ SUSPECT
 *        ▲                             │
 *        └──────── disconnected ───────┘
 */
export type Standing = string;
/** @import { Data } from "./document.js" */
/** @import { Change } from "./events.js" */
/** @import { Snapshot, Update } from "./messages.js" */
/**
 * What is known about one document on this connection.
 *
 *     AWAITED ──snapshot, current──▶ EXACT ◀──answer to sync──▶ SUSPECT
 *        ▲                             │
 *        └──────── disconnected ───────┘
 *
 * @enum {string}
 */
export const Standing: Readonly<{
    AWAITED: "awaited";
    EXACT: "exact";
    SUSPECT: "suspect";
}>;
/** One document as it is held. */
export class Held {
    /** @type {Data} */
    data: Data;
    /**
     * Null until it was held once.
     * @type {string | null}
     */
    rev: string | null;
    seq: number;
    /** @type {Standing} */
    standing: Standing;
    stale: boolean;
    /** Whether it is what its revision says. */
    verified: boolean;
    answers: number;
}
import type { Snapshot } from "./messages.js";
import type { Update } from "./messages.js";
import type { Data } from "./document.js";
import type { Change } from "./events.js";
