/** Permissions held, with those that were gained or lost while somebody looks. */

import { h, KeyedList, setMark, setShown, setText } from "../dom.js";
import { counted, figure } from "../format.js";
import { icon } from "./icon.js";
import { card, emptyState } from "./layout.js";
import { FIRST_SHOWN, PartedList } from "./parted.js";
import { announce } from "./toast.js";

/** @typedef {{name: string, held: "held" | "gained" | "lost"}} Permission */

const REMEMBERED_MS = 6000;
const MANY = 12;
const FILTER = { placeholder: "Filter permissions", "aria-label": "Filter permissions" };

/**
 * A card of permissions.
 *
 * @param {AbortSignal} signal
 * @param {string} [whose] for those who listen: "You have" or a name with "has"
 */
export function permissionsCard(signal, whose = "You have") {
  const memory = new Memory();
  const parts = permissionParts();
  const draw = (/** @type {Iterable<string>} */ names) => {
    const { now, gained, lost } = memory.compare(names, Date.now());
    parts.show(now);
    tell(whose, gained, lost);
    if (gained.length + lost.length > 0) {
      const again = setTimeout(() => draw(memory.held), REMEMBERED_MS + 50);
      signal.addEventListener("abort", () => clearTimeout(again), { once: true });
    }
  };
  return { element: parts.element, update: draw };
}

/** The card and what is in it: a filter where there are many, and not all at once where there are very many. */
function permissionParts() {
  const element = h("ul", { class: "permissions" });
  const key = (/** @type {Permission} */ permission) => permission.name;
  const list = new PartedList(new KeyedList(element, key, permissionView));
  const none = emptyState("security", "No permissions", "A plan, a role or a grant gives permissions.");
  const count = h("span", { class: "pill" });
  const input = h("input", { type: "search", class: "input input-search", ...FILTER });
  const unknown = h("p", { class: "empty-text", role: "status" });
  /** @type {Permission[]} */
  let all = [];
  const draw = () => {
    const wanted = input.value.trim().toLowerCase();
    const found = wanted === "" ? all : all.filter(({ name }) => name.toLowerCase().includes(wanted));
    list.show(found, () => found.filter(({ held }, index) => held !== "held" || index < FIRST_SHOWN));
    setText(unknown, found.length === 0 && all.length > 0 ? `None of them has “${input.value.trim()}” in it.` : "");
  };
  input.addEventListener("input", draw);
  const show = (/** @type {Permission[]} */ now) => {
    all = now;
    const held = now.filter((permission) => permission.held !== "lost").length;
    setText(count, figure(held));
    setMark(count, "title", counted(held, "permission"));
    setShown(none, now.length === 0);
    setShown(input, now.length > MANY || input.value !== "");
    draw();
  };
  return { element: card("Permissions", { count, actions: input }, none, element, unknown, list.more), show };
}

/** What was held before, and what became of it lately. */
class Memory {
  constructor() {
    /** @type {Set<string> | null} */
    this._held = null;
    /** @type {Map<string, {held: "gained" | "lost", until: number}>} */
    this._lately = new Map();
  }

  /** @returns {Iterable<string>} */
  get held() {
    return this._held ?? [];
  }

  /** @param {Iterable<string>} names @param {number} now milliseconds */
  compare(names, now) {
    const held = new Set(names);
    const before = this._held ?? held;
    const gained = [...held].filter((name) => !before.has(name)).sort();
    const lost = [...before].filter((name) => !held.has(name)).sort();
    const until = now + REMEMBERED_MS;
    gained.forEach((name) => this._lately.set(name, { held: "gained", until }));
    lost.forEach((name) => this._lately.set(name, { held: "lost", until }));
    for (const [name, lately] of this._lately) {
      if (lately.until <= now) {
        this._lately.delete(name);
      }
    }
    this._held = held;
    const shown = new Set([...held, ...this._lately.keys()]);
    return { now: [...shown].sort().map((name) => this._shown(name)), gained, lost };
  }

  /** @param {string} name @returns {Permission} */
  _shown(name) {
    return { name, held: this._lately.get(name)?.held ?? "held" };
  }
}

/** @param {string} whose @param {string[]} gained @param {string[]} lost */
function tell(whose, gained, lost) {
  gained.forEach((name) => announce(`${whose} gained the permission ${name}`));
  lost.forEach((name) => announce(`${whose} lost the permission ${name}`));
}

const SAID = { held: "", gained: "New", lost: "Lost" };
const TONES = { held: "neutral", gained: "good", lost: "bad" };

/**
 * @param {Permission} permission
 * @returns {import("../dom.js").Part<Permission>}
 */
function permissionView({ name }) {
  const said = h("span", { class: "pill" });
  const sign = h("span", { class: "permission-sign" });
  const element = h("li", { class: "permission", test: `permission-${name}` }, sign, h("code", null, name), said);
  /** @type {string | null} */
  let before = null;
  const update = (/** @type {Permission} */ { held }) => {
    if (held !== before) {
      before = held;
      sign.replaceChildren(icon(held === "lost" ? "close" : "check"));
      setMark(element, "data-held", held);
      setText(said, SAID[held]);
      setMark(said, "data-tone", TONES[held]);
      setShown(said, held !== "held");
    }
  };
  return { element, update };
}
