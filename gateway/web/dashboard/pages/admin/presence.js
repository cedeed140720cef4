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

  /** A mark that says whether a user is connected. @param {string} user */
  mark(user) {
    const made = pill("", "neutral", { hidden: true, "data-connected": "unknown" });
    const known = this._marks.get(user) ?? new Set();
    this._marks.set(user, known.add(made));
    return made;
  }

  /** Forgets marks that are not shown any more. */
  sweep() {
    for (const [user, marks] of this._marks) {
      for (const mark of marks) {
        mark.isConnected || marks.delete(mark);
      }
      marks.size > 0 || this._marks.delete(user);
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
      const users = [...this._marks.keys()];
      if (users.length > 0) {
        this._show(users, await this._counts(users));
      }
    } catch {
      // The next turn asks again.
    } finally {
      this._asking = false;
    }
  }

  /** All sessions where they are few, else those of each user. @param {string[]} users */
  async _counts(users) {
    const { items, next } = await this._sessions({ limit: PAGE });
    /** @type {Map<string, number>} */
    const counts = new Map();
    const add = (/** @type {any[]} */ some) =>
      some.forEach(({ principal }) => counts.set(principal, (counts.get(principal) ?? 0) + 1));
    if (next === null) {
      add(items);
      return counts;
    }
    for (let at = 0; at < users.length; at += AT_ONCE) {
      const some = users.slice(at, at + AT_ONCE);
      const pages = await Promise.all(some.map((user) => this._sessions({ user, limit: 50 })));
      pages.forEach((page) => add(page.items));
    }
    return counts;
  }

  /** @param {Record<string, any>} query */
  _sessions(query) {
    return this._api.get("/admin/sessions", { query, signal: this._signal });
  }

  /** @param {string[]} users @param {Map<string, number>} counts */
  _show(users, counts) {
    for (const user of users) {
      const count = counts.get(`user:${user}`) ?? 0;
      for (const mark of this._marks.get(user) ?? []) {
        setText(mark, count === 0 ? "Away" : count === 1 ? "Connected" : counted(count, "connection"));
        setMark(mark, "data-tone", count === 0 ? "neutral" : "good");
        setMark(mark, "data-connected", count);
        setShown(mark, true);
      }
    }
  }
}
