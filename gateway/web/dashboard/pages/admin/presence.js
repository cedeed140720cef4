/** Who is connected to the node that answers. */

import { setMark, setShown, setText } from "../../dom.js";
import { counted } from "../../format.js";
import { eachWhileSeen } from "../../frame.js";
import { pill } from "../../components/layout.js";

const ASKED_MS = 5000;
const PAGE = 200;
const AT_ONCE = 6;

export class Presence {
  /**
   * @param {import("../../api.js").Api} api
   * @param {AbortSignal} signal
   */
  constructor(api, signal) {
    this._api = api;
    this._signal = signal;
    /** @type {Map<string, Set<HTMLElement>>} */
    this._marks = new Map();
    this._asking = false;
    eachWhileSeen(() => void this.ask(), ASKED_MS, signal);
  }

  /** A mark that says whether somebody is connected. @param {string} principal `user:ID` or `instance:ID` */
  mark(principal) {
    const made = pill("", "neutral", { hidden: true, "data-connected": "unknown" });
    const known = this._marks.get(principal) ?? new Set();
    this._marks.set(principal, known.add(made));
    return made;
  }

  /** Forgets marks that are not shown any more. */
  sweep() {
    for (const [principal, marks] of this._marks) {
      for (const mark of marks) {
        mark.isConnected || marks.delete(mark);
      }
      marks.size > 0 || this._marks.delete(principal);
    }
  }

  /** Asks about everybody who is marked. What goes wrong leaves the marks as they are: they are a help, no more. */
  async ask() {
    if (this._asking) {
      return;
    }
    this._asking = true;
    try {
      this.sweep();
      const principals = [...this._marks.keys()];
      if (principals.length > 0) {
        this._show(principals, await this._counts(principals));
      }
    } catch {
      // The next turn asks again.
    } finally {
      this._asking = false;
    }
  }

  /** All sessions where they are few, else those of each. @param {string[]} principals */
  async _counts(principals) {
    const { items, next } = await this._sessions({ limit: PAGE });
    /** @type {Map<string, number>} */
    const counts = new Map();
    const add = (/** @type {any[]} */ some) =>
      some.forEach(({ principal }) => counts.set(principal, (counts.get(principal) ?? 0) + 1));
    if (next === null) {
      add(items);
      return counts;
    }
    for (let at = 0; at < principals.length; at += AT_ONCE) {
      const some = principals.slice(at, at + AT_ONCE);
      const pages = await Promise.all(some.map((one) => this._sessions({ ...searchOf(one), limit: 50 })));
      pages.forEach((page) => add(page.items));
    }
    return counts;
  }

  /** @param {Record<string, any>} query */
  _sessions(query) {
    return this._api.get("/admin/sessions", { query, signal: this._signal });
  }

  /** @param {string[]} principals @param {Map<string, number>} counts */
  _show(principals, counts) {
    for (const principal of principals) {
      const count = counts.get(principal) ?? 0;
      for (const mark of this._marks.get(principal) ?? []) {
        setText(mark, count === 0 ? "Away" : count === 1 ? "Connected" : counted(count, "connection"));
        setMark(mark, "data-tone", count === 0 ? "neutral" : "good");
        setMark(mark, "data-connected", count);
        setShown(mark, true);
      }
    }
  }
}

/** How the sessions of somebody are asked for. @param {string} principal @returns {Record<string, string>} */
function searchOf(principal) {
  const [kind, ...rest] = principal.split(":");
  return { [kind]: rest.join(":") };
}
