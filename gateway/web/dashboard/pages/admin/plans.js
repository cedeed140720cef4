/** The plans. */

import { h } from "../../dom.js";
import { counted } from "../../format.js";
import { link } from "../../router.js";
import { icon } from "../../components/icon.js";
import { card, emptyState, page, pill } from "../../components/layout.js";
import { PagedTable } from "../../components/paged.js";
import { limitWords } from "./explanation.js";

const SHOWN = 4;

/** @param {import("../../app.js").Context} context */
export function mount(context) {
  const { api, session, signal } = context;
  const plans = new PagedTable({
    caption: "Plans",
    columns: [
      { title: "Plan", kind: "main", cell: planName },
      { title: "Permissions", cell: (plan) => names(plan.permissions) },
      { title: "Quotas", cell: quotas },
    ],
    load: (cursor) => api.get("/plans", { query: { cursor, limit: 50 }, signal }),
    test: (plan) => `plan-${plan.id}`,
    empty: () => emptyState("plans", "No plans", "Every user is on a plan, so make one first."),
    noun: "plan",
    signal,
  });
  void plans.reload();
  const create = session.may("plans.write") && newLink("plans", "New plan");
  const lead = "What users and organizations get. A change reaches everybody on a plan at once.";
  return page("Plans", { lead, actions: create }, card("All plans", { flush: true }, plans.element));
}

/** A link, looking as a button, to where something new is made. @param {string} kind @param {string} text */
export function newLink(kind, text) {
  return h(
    "a",
    { class: "button", href: `${link("admin", kind, "new")}?new`, test: `new-${kind}` },
    icon("plus"),
    h("span", null, text),
  );
}

/** @param {any} plan */
function planName(plan) {
  const href = link("admin", "plans", plan.id);
  return [
    h("a", { class: "person-name", href }, plan.name || plan.id),
    h("div", { class: "cell-more" }, h("code", null, plan.id)),
  ];
}

/** A few names, and how many more there are. @param {string[]} all */
export function names(all) {
  if (all.length === 0) {
    return h("span", { class: "cell-more" }, "none");
  }
  const more = all.length - SHOWN;
  return h(
    "div",
    { class: "chips" },
    all.slice(0, SHOWN).map((name) => h("code", { class: "chip" }, name)),
    more > 0 && pill(`${counted(more, "more", "more")}`),
  );
}

/** @param {any} plan */
function quotas(plan) {
  const all = Object.entries(plan.quotas);
  if (all.length === 0) {
    return h("span", { class: "cell-more" }, "none");
  }
  const rows = all.slice(0, SHOWN).map(([name, quota]) => h("li", null, h("code", null, name), " ", limitWords(quota)));
  return h("ul", { class: "plan-quotas" }, rows, all.length > SHOWN && h("li", null, `and ${all.length - SHOWN} more`));
}
