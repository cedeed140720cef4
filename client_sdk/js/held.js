/** One document as it is held. */

import { NOTHING, change } from "./events.js";

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
export const Standing = Object.freeze({ AWAITED: "awaited", EXACT: "exact", SUSPECT: "suspect" });

/** One document as it is held. */
export class Held {
  constructor() {
    /** @type {Data} */
    this.data = NOTHING;
    /**
     * Null until it was held once.
     * @type {string | null}
     */
    this.rev = null;
    this.seq = 0;
    /** @type {Standing} */
    this.standing = Standing.AWAITED;
    this.stale = false;
    /** Whether it is what its revision says. */
    this.verified = true;
    this.answers = 0;
  }
}

/**
 * Whether a whole document may replace what is held: on one connection nothing goes back, unless it was asked for.
 * @param {Held} held
 * @param {Snapshot} message
 * @returns {boolean}
 */
export function isNext(held, message) {
  return held.answers > 0 || held.standing === Standing.AWAITED || message.seq >= held.seq;
}

/**
 * Whether a patch starts from what is held.
 * @param {Held} held
 * @param {Update} message
 * @returns {boolean}
 */
export function fits(held, message) {
  return message.from === held.rev && (held.standing === Standing.AWAITED || message.seq >= held.seq);
}

/**
 * Hold another copy.
 * @param {Held} held
 * @param {Snapshot | Update} message
 * @param {Data} data
 * @returns {Change | null}
 */
export function replace(held, message, data) {
  const { data: before, rev: was } = held;
  const { doc, rev, seq } = message;
  Object.assign(held, { data, rev, seq });
  if (was === rev) {
    return null;
  }
  const causes = message.op === "update" ? message.causes : [];
  return change({ doc, kind: message.op, before, data, rev, seq, causes });
}
