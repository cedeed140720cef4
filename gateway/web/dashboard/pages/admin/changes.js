/** The change log as it grows. */

import { h, KeyedList, setMark, setShown, setText } from "../../dom.js";
import { own } from "../../own.js";
import { inWords } from "../../api.js";
import { counted, figure, timeOfDay } from "../../format.js";
import { nextFrame } from "../../frame.js";
import { link } from "../../router.js";
import { button } from "../../components/button.js";
import { card, emptyState, page, pill } from "../../components/layout.js";
import { searchField } from "./search_field.js";

/** @typedef {{seq: number, doc: string, cause: string, at: string}} Change */

const KEPT = 2000;
const SHOWN = 100;
const PAGE = 200;
const WAIT_S = 20;
const TIMEOUT_MS = 40_000;
const PACE_MS = 100;
/** After a full answer: nobody reads as fast, and the page has other things to do. */
const SLOW_PACE_MS = 1000;
const RETRY_MS = 3000;
/** Full answers after which the log is too fast to be read: the newest rows follow, and those between are left out. */
const MOST_FULL = 2;

const CAUSES = [
  "profile",
  "status",
  "plan",
  "permissions",
  "roles",
  "quota_limit",
  "quota_usage",
  "organization",
  "revocation",
  "keys",
  "sessions",
  "use",
];

/** @param {import("../../app.js").Context} context */
export function mount(context) {
  const log = new ChangeLog(context);
  void log.follow();
  const lead = "What was committed to the database, by whichever program, as soon as it was.";
  return page("Changes", { lead, actions: [log.state, log.button] }, log.element);
}

class ChangeLog {
  /** @param {import("../../app.js").Context} context */
  constructor({ api, query, signal }) {
    this._api = api;
    this._signal = signal;
    /** @type {Change[]} the newest first */
    this._rows = [];
    this._paused = false;
    this._left = 0;
    this._epoch = "";
    /** @type {() => void} */
    this._resumed = () => {};
    this._draw = () => this._show();
    this.state = pill("Connecting", "neutral", { test: "follow-state" });
    this.button = button("Pause", () => this._pause(), { test: "pause" });
    const about = { label: "Filter by document", placeholder: "Document, such as user:u_ada", test: "filter-doc" };
    this._search = searchField({ ...about, value: query.get("doc") });
    this._doc = this._search.input;
    const causes = CAUSES.map((cause) => h("option", { value: cause }, cause));
    this._cause = h(
      "select",
      { class: "input select", "aria-label": "Filter by cause", test: "filter-cause" },
      h("option", { value: "" }, "Any cause"),
      causes,
    );
    this._doc.addEventListener("input", this._draw);
    this._cause.addEventListener("change", this._draw);
    this._body = h("tbody");
    this._list = new KeyedList(this._body, (/** @type {Change} */ change) => String(change.seq), changeView);
    this._table = h("div", { class: "table-frame" }, changeTable(this._body));
    this._none = emptyState("changes", "No changes", "Nothing that fits was committed lately.");
    this._count = h("p", { class: "paged-count" });
    this.element = this._card();
  }

  _card() {
    const foot = h("div", { class: "paged-foot" }, this._count);
    const about = {
      flush: true,
      actions: h("div", { class: "filters" }, this._search.element, this._cause),
      test: "changes",
    };
    return card("Change log", about, this._none, this._table, foot);
  }

  _pause() {
    this._paused = !this._paused;
    const label = this.button.querySelector("span");
    label && setText(label, this._paused ? "Resume" : "Pause");
    setMark(this.button, "aria-pressed", this._paused);
    this._tell(this._paused ? "Paused" : "Following", this._paused ? "warn" : "good");
    this._resumed();
  }

  /** @param {string} text @param {string} tone */
  _tell(text, tone) {
    setText(this.state, text);
    setMark(this.state, "data-tone", tone);
  }

  /** Asks for what follows, for as long as the page is shown. */
  async follow() {
    /** @type {number | null} */
    let after = null;
    let full = 0;
    while (!this._signal.aborted) {
      try {
        const skipping = full >= MOST_FULL;
        const answer = await this._ask(skipping ? null : after);
        full = answer.items.length === PAGE && !skipping ? full + 1 : 0;
        this._took(answer, skipping || answer.missed ? after : null);
        after = answer.next;
        await this._whenWanted();
        await this._pauseFor(answer.items.length === PAGE ? SLOW_PACE_MS : PACE_MS);
      } catch (error) {
        this._signal.aborted || this._tell(inWords(error), "bad");
        await this._pauseFor(RETRY_MS);
      }
    }
  }

  /** @param {number | null} after */
  _ask(after) {
    const query = after === null ? { limit: PAGE } : { after, limit: PAGE, wait_s: WAIT_S };
    return this._api.get("/admin/changes", { query, signal: this._signal, timeoutMs: TIMEOUT_MS });
  }

  /**
   * @param {{items: Change[], epoch: string}} answer
   * @param {number | null} skippedFrom behind which rows were left out
   */
  _took({ items, epoch }, skippedFrom) {
    if (epoch !== this._epoch) {
      this._epoch = epoch;
      this._rows = [];
    }
    const newest = this._rows[0]?.seq ?? 0;
    if (skippedFrom !== null && items.length > 0) {
      this._left += Math.max(0, items[0].seq - skippedFrom - 1);
    }
    this._rows = [...items.filter(({ seq }) => seq > newest).reverse(), ...this._rows].slice(0, KEPT);
    this._paused || this._tell("Following", "good");
    nextFrame(this._draw);
  }

  /** Nothing is asked for while it is paused. @returns {Promise<void>} */
  _whenWanted() {
    return this._paused
      ? new Promise((done) => {
          this._resumed = done;
          this._signal.addEventListener("abort", () => done(), { once: true });
        })
      : Promise.resolve();
  }

  /** @param {number} ms @returns {Promise<void>} */
  _pauseFor(ms) {
    return new Promise((done) => setTimeout(done, ms));
  }

  _show() {
    const doc = this._doc.value.trim().toLowerCase();
    const cause = this._cause.value;
    const found = this._rows.filter(
      (row) => row.doc.toLowerCase().includes(doc) && (cause === "" || row.cause === cause),
    );
    this._list.show(found.slice(0, SHOWN));
    setShown(this._none, found.length === 0);
    setShown(this._table, found.length > 0);
    const shown = `${figure(Math.min(found.length, SHOWN))} of the last ${counted(this._rows.length, "change")} shown`;
    setText(this._count, this._left > 0 ? `${shown}; ${figure(this._left)} were left out` : shown);
  }
}

/** @param {HTMLElement} body */
function changeTable(body) {
  const head = ["Seq", "Document", "Cause", "Time"].map((title) => h("th", { scope: "col" }, title));
  const caption = h("caption", { class: "visually-hidden" }, "Changes, the newest first");
  return h("table", { class: "table table-dense table-fixed" }, caption, h("thead", null, h("tr", null, head)), body);
}

/** @param {Change} change @returns {import("../../dom.js").Part<Change>} */
function changeView({ seq, doc, cause, at }) {
  const time = h("time", { datetime: at, title: at }, timeOfDay(at));
  const element = h(
    "tr",
    { test: `change-${seq}` },
    h("td", { "data-label": "Seq" }, h("span", null, figure(seq))),
    h("td", { "data-label": "Document" }, h("span", null, documentLink(doc))),
    h("td", { "data-label": "Cause" }, h("span", null, pill(cause, toneOf(cause)))),
    h("td", { "data-label": "Time" }, time),
  );
  return { element, update: () => {} };
}

const PLACES = /** @type {Record<string, string>} */ ({
  user: "users",
  plan: "plans",
  role: "roles",
  org: "organizations",
  instance: "instances",
});

/**
 * A document, leading to its page where there is one.
 *
 * @param {string} doc
 */
export function documentLink(doc) {
  const [kind, ...rest] = doc.split(":");
  const id = rest.join(":");
  const place = own(PLACES, kind);
  const name = h("code", null, doc);
  return place === undefined || id === "" ? name : h("a", { href: link("admin", place, id) }, name);
}

/** @param {string} cause */
function toneOf(cause) {
  if (["revocation", "status"].includes(cause)) {
    return "bad";
  }
  return ["plan", "permissions", "roles", "quota_limit"].includes(cause) ? "accent" : "neutral";
}
