/**
 * What was changed of a document while somebody looked: each edit with the commit that it became and the update that
 * came of it, by the channel, and what others did meanwhile.
 */

import { h, KeyedList, setMark, setShown, setText } from "../../dom.js";
import { figure, timeOfDay } from "../../format.js";
import { nextFrame } from "../../frame.js";
import { card, emptyState } from "../../components/layout.js";
import { announce } from "../../components/toast.js";

const MOST = 30;
const PATCH_SHOWN = 1200;
const PATIENCE_MS = 4000;
/** Updates with the same causes that follow each other so soon are told in one entry. */
const JOINED_MS = 1000;

/**
 * `sending`: not answered; `committed`: no update yet; `shown`: it arrived; `silent`: the document does not show it;
 * `failed`: nothing was changed; `other`: an update that no edit of this page caused.
 *
 * @typedef {object} Entry
 * @property {number} key
 * @property {string} title
 * @property {"sending" | "committed" | "shown" | "silent" | "failed" | "other"} state
 * @property {Date} at
 * @property {number} sentAt of `performance.now()`
 * @property {number | null} answeredMs
 * @property {number | null} arrivedMs
 * @property {number | null} seq
 * @property {readonly string[]} causes
 * @property {unknown} patch
 * @property {number} times how many updates are told in one entry: of several the last one is shown
 */

/** @typedef {{seq: number, causes: readonly string[], patch: unknown, kind: string, at: number}} Update */

export class EditLog {
  /**
   * @param {import("../../app.js").Context} context
   * @param {string} doc
   */
  constructor(context, doc) {
    /** @type {Entry[]} the newest first */
    this._entries = [];
    /** Updates that came while an edit was not answered: they may be its own. @type {Update[]} */
    this._early = [];
    this._keys = 0;
    this._signal = context.signal;
    this._rows = h("ol", { class: "edits", "aria-label": "Edits and updates, the newest first" });
    this._list = new KeyedList(this._rows, (entry) => String(entry.key), entryView);
    this._none = emptyState(
      "changes",
      "Nothing yet",
      "Each change shows here, with the update that the channel brought.",
    );
    const lead = "From the commit to the update on this page’s channel.";
    this.element = card("Live log", { lead, flush: true, class: "edit-log", test: "edit-log" }, this._none, this._rows);
    this._draw = () => this._show();
    const stop = context.channel.on(
      "change",
      (change) => change.doc === doc && change.before !== undefined && this._came(change),
    );
    this._signal.addEventListener("abort", stop, { once: true });
  }

  /**
   * Carries out an edit and follows what becomes of it.
   *
   * @template {{seq: number}} T
   * @param {string} title
   * @param {() => Promise<T>} act answers with the `seq` of the commit
   * @returns {Promise<T>}
   */
  async edit(title, act) {
    const entry = this._add(title, "sending");
    try {
      const answer = await act();
      entry.answeredMs = performance.now() - entry.sentAt;
      entry.seq = answer.seq;
      entry.state = "committed";
      this._match(entry);
      setTimeout(() => this._giveUp(entry), PATIENCE_MS);
      return answer;
    } catch (error) {
      entry.state = "failed";
      throw error;
    } finally {
      this._settle();
      nextFrame(this._draw);
    }
  }

  /** @param {string} title @param {Entry["state"]} state @returns {Entry} */
  _add(title, state) {
    this._keys += 1;
    /** @type {Entry} */
    const entry = {
      key: this._keys,
      title,
      state,
      at: new Date(),
      sentAt: performance.now(),
      answeredMs: null,
      arrivedMs: null,
      seq: null,
      causes: [],
      patch: null,
      times: 0,
    };
    this._entries.unshift(entry);
    this._entries.length = Math.min(this._entries.length, MOST);
    nextFrame(this._draw);
    return entry;
  }

  /** @param {any} change of the channel */
  _came({ seq, causes, patch, kind, before }) {
    if (kind === "snapshot" && Object.keys(before).length === 0) {
      return;
    }
    const update = { seq, causes, patch, kind, at: performance.now() };
    const waiting = this._entries.filter((entry) => entry.state === "committed" && (entry.seq ?? Infinity) <= seq);
    waiting.forEach((entry) => this._arrived(entry, update));
    if (waiting.length > 0) {
      return;
    }
    if (this._entries.some((entry) => entry.state === "sending")) {
      this._early.push(update);
    } else {
      this._foreign(update);
    }
  }

  /** @param {Entry} entry */
  _match(entry) {
    const index = this._early.findIndex((update) => update.seq >= (entry.seq ?? Infinity));
    if (index >= 0) {
      this._arrived(entry, this._early.splice(index, 1)[0]);
    }
  }

  /** @param {Entry} entry @param {Update} update */
  _arrived(entry, update) {
    Object.assign(entry, { state: "shown", causes: update.causes, patch: update.patch });
    entry.arrivedMs = update.at - entry.sentAt;
    announce(`${entry.title}: the update arrived.`);
    nextFrame(this._draw);
  }

  /** Nothing is under way any more: what came early and is nobody's was somebody else's. */
  _settle() {
    if (!this._entries.some((entry) => entry.state === "sending")) {
      this._early.splice(0).forEach((update) => this._foreign(update));
    }
  }

  /** @param {Update} update */
  _foreign({ seq, causes, patch, kind }) {
    const use = causes.length === 1 && causes[0] === "quota_usage";
    const title = kind === "gone" ? "Gone" : use ? "Used" : "Changed elsewhere";
    const own = this._entries.findIndex((entry) => entry.state !== "other");
    const since = own < 0 ? this._entries : this._entries.slice(0, own);
    const entry = since.find((one) => continues(one, title, causes)) ?? this._add(title, "other");
    Object.assign(entry, { seq, causes, patch, times: entry.times + 1, at: new Date() });
    nextFrame(this._draw);
  }

  /** @param {Entry} entry */
  _giveUp(entry) {
    if (entry.state === "committed" && !this._signal.aborted) {
      entry.state = "silent";
      nextFrame(this._draw);
    }
  }

  _show() {
    this._list.show(this._entries);
    setShown(this._none, this._entries.length === 0);
    setShown(this._rows, this._entries.length > 0);
  }
}

/**
 * Whether an entry goes on with an update: use however long it takes, anything else for a moment.
 *
 * @param {Entry} entry
 * @param {string} title
 * @param {readonly string[]} causes
 */
function continues(entry, title, causes) {
  const same = entry.title === title && sorted(entry.causes) === sorted(causes);
  return same && (title === "Used" || Date.now() - entry.at.getTime() < JOINED_MS);
}

/** @param {readonly string[]} causes */
function sorted(causes) {
  return [...causes].sort().join();
}

const SAID = {
  sending: "On its way…",
  committed: "Committed, waiting for the update…",
  silent: "Committed. The document does not show it.",
  failed: "Refused. Nothing was changed.",
};

/**
 * What came of an own edit is open; a patch becomes text only where somebody looks at it.
 *
 * @param {Entry} first
 * @returns {import("../../dom.js").Part<Entry>}
 */
function entryView(first) {
  const time = h("time");
  const state = h("p", { class: "edit-state" });
  const causes = h("p", { class: "edit-causes" });
  const patch = h("pre", { class: "edit-patch" });
  const more = h("details", { open: first.state !== "other" }, h("summary", null, "Patch"), patch);
  const head = h("p", { class: "edit-head" }, h("strong", null, first.title), time);
  const element = h("li", { class: "edit" }, head, state, causes, more);
  let shown = first;
  const drawPatch = () => {
    if (more.open && shown.patch !== null) {
      setText(patch, patchText(shown.patch));
    }
  };
  const update = (/** @type {Entry} */ entry) => {
    shown = entry;
    setMark(element, "data-state", entry.state);
    setText(time, timeOfDay(entry.at));
    setText(state, inWords(entry));
    setText(causes, entry.causes.length > 0 ? `Causes: ${entry.causes.join(", ")}` : "");
    setShown(causes, entry.causes.length > 0);
    setShown(more, entry.patch !== null);
    drawPatch();
  };
  more.addEventListener("toggle", drawPatch);
  return { element, update };
}

/** @param {Entry} entry */
function inWords({ state, seq, answeredMs, arrivedMs, times }) {
  if (state === "shown") {
    return `Commit ${figure(seq ?? 0)} · update after ${inMs(arrivedMs)} · answer after ${inMs(answeredMs)}`;
  }
  const several = times > 1 ? `${figure(times)} updates so far, ` : "";
  return state === "other" ? `${several || "Update, "}exact up to commit ${figure(seq ?? 0)}` : SAID[state];
}

/** @param {number | null} ms */
function inMs(ms) {
  return ms === null ? "?" : `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
}

/** @param {unknown} patch */
function patchText(patch) {
  const text = JSON.stringify(patch, null, 2) ?? "";
  return text.length > PATCH_SHOWN ? `${text.slice(0, PATCH_SHOWN)}…` : text;
}
