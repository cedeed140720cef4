/** How pages are laid out: their head, cards, terms with their values, and what stands where there is nothing. */

import { freshId, h } from "../dom.js";
import { icon } from "./icon.js";

/** @typedef {import("../dom.js").Child} Child */

/**
 * A page.
 *
 * @param {string | Element} title
 * @param {{lead?: Child, actions?: Child, above?: Child}} about `above`: a way back, for example
 * @param {...Child} parts
 */
export function page(title, about, ...parts) {
  const { lead, actions, above } = about;
  return h(
    "div",
    { class: "page" },
    h(
      "div",
      { class: "page-head" },
      h(
        "div",
        { class: "page-title" },
        above && h("p", { class: "page-above" }, above),
        h("h1", { tabindex: "-1" }, title),
        lead && h("p", { class: "lead" }, lead),
      ),
      actions && h("div", { class: "actions" }, actions),
    ),
    ...parts,
  );
}

/**
 * A part of a page in a box. `flush`: what is in it goes to the edges, as tables do.
 *
 * @param {Child} title
 * @param {{lead?: Child, actions?: Child, flush?: boolean, class?: string, test?: string, count?: Element}} about
 * @param {...Child} children
 */
export function card(title, about, ...children) {
  const id = freshId("card");
  const classes = ["card", about.flush && "card-flush", about.class].filter(Boolean).join(" ");
  return h(
    "section",
    { class: classes, "aria-labelledby": id, test: about.test },
    h(
      "div",
      { class: "card-head" },
      h(
        "div",
        { class: "card-title" },
        h("h2", { id }, title),
        about.count,
        about.lead && h("p", { class: "card-lead" }, about.lead),
      ),
      about.actions && h("div", { class: "actions" }, about.actions),
    ),
    h("div", { class: "card-body" }, ...children),
  );
}

/**
 * Terms and what they are.
 *
 * @param {[string, Child][]} rows
 */
export function terms(rows) {
  return h(
    "dl",
    { class: "terms" },
    rows.map(([term, value]) => h("div", { class: "term" }, h("dt", null, term), h("dd", null, value))),
  );
}

/**
 * What stands where there is nothing.
 *
 * @param {import("./icon.js").IconName} iconName
 * @param {string} title
 * @param {...Child} more
 */
export function emptyState(iconName, title, ...more) {
  return h(
    "div",
    { class: "empty" },
    h("span", { class: "empty-icon" }, icon(iconName)),
    h("p", { class: "empty-title" }, title),
    more.length > 0 && h("p", { class: "empty-text" }, ...more),
  );
}

/**
 * A small label: `tone` gives its colour; the words have to say it too.
 *
 * @param {Child} text
 * @param {"neutral" | "accent" | "good" | "warn" | "bad"} [tone]
 * @param {import("../dom.js").Attributes} [attributes]
 */
export function pill(text, tone = "neutral", attributes = {}) {
  return h("span", { class: "pill", "data-tone": tone, ...attributes }, text);
}

/**
 * A sentence that stands out in the text.
 *
 * @param {"info" | "warning"} kind
 * @param {...Child} children
 */
export function note(kind, ...children) {
  return h("div", { class: "note", "data-kind": kind }, icon(kind), h("div", { class: "note-text" }, ...children));
}
