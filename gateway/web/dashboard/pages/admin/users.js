/** Users: found as one types. */

import { h } from "../../dom.js";
import { initials } from "../../format.js";
import { go, link } from "../../router.js";
import { button } from "../../components/button.js";
import { card, emptyState, page, pill } from "../../components/layout.js";
import { PagedTable } from "../../components/paged.js";
import { newUserDialog } from "./new_user.js";
import { Presence } from "./presence.js";
import { isAdmin } from "./rights.js";
import { onceTyped, searchField } from "./search_field.js";

const PAGE = 50;
/** @type {[string, string][]} */
const STATUSES = [
  ["", "Any status"],
  ["active", "Active"],
  ["disabled", "Disabled"],
];

/** @param {import("../../app.js").Context} context */
export function mount(context) {
  const { api, session, signal, query } = context;
  const presence = isAdmin(session) ? new Presence(api, signal) : null;
  const placeholder = "User name or e-mail begins with…";
  const search = searchField({ label: "Search users", placeholder, value: query.get("query"), test: "user-search" });
  const status = choice("Status", STATUSES, query.get("status"));
  const plan = choice("Plan", [["", "Any plan"]], null);
  const asked = () => ({ query: search.input.value.trim(), status: status.value, plan: plan.value });
  const users = new PagedTable({
    caption: "Users",
    columns: columns(presence),
    load: (cursor) => api.get("/users", { query: { ...asked(), cursor, limit: PAGE }, signal }),
    test: (user) => `user-${user.id}`,
    empty: () => emptyState("users", "Nobody is called so.", "Names and addresses are searched from their beginning."),
    noun: "user",
    signal,
    shown: () => void presence?.ask(),
  });
  const again = () => void users.reload();
  onceTyped(search.input, again, signal);
  [status, plan].forEach((select) => select.addEventListener("change", again));
  void addPlans(api, plan, query.get("plan"), signal).then(again);
  const filters = h("div", { class: "filters", role: "search" }, search.element, status, plan);
  const create = isAdmin(session) && button("New user", () => void make(context), { icon: "plus", test: "new-user" });
  const list = card("All users", { flush: true, actions: filters }, users.element);
  return page("Users", { lead: "Everybody the gateway knows.", actions: create }, list);
}

/** @param {import("../../app.js").Context} context */
async function make(context) {
  const made = await newUserDialog(context);
  if (made !== null) {
    go(link("admin", "users", made));
  }
}

/**
 * @param {string} label
 * @param {[string, string][]} choices
 * @param {string | null} value
 */
function choice(label, choices, value) {
  const made = h(
    "select",
    { class: "input select", "aria-label": label },
    choices.map(([key, text]) => h("option", { value: key }, text)),
  );
  made.value = value ?? "";
  return made;
}

/**
 * @param {import("../../api.js").Api} api
 * @param {HTMLSelectElement} select
 * @param {string | null} wanted
 * @param {AbortSignal} signal
 */
async function addPlans(api, select, wanted, signal) {
  try {
    const plans = await api.all("/plans", { signal });
    select.append(...plans.map((plan) => h("option", { value: plan.id }, plan.name || plan.id)));
    select.value = wanted ?? "";
  } catch {
    // The list is there without this filter.
    select.hidden = true;
  }
}

/** @param {Presence | null} presence @returns {import("../../components/table.js").Column<any>[]} */
function columns(presence) {
  /** @type {import("../../components/table.js").Column<any>[]} */
  const shown = [
    { title: "User", kind: "main", cell: who },
    { title: "Plan", cell: (user) => h("code", null, user.plan) },
    { title: "Status", cell: statusPill },
  ];
  return presence === null
    ? shown
    : [...shown, { title: "Connected here", cell: (user) => presence.mark(`user:${user.id}`) }];
}

/** @param {any} user */
function who(user) {
  const name = user.name || user.username;
  return h(
    "div",
    { class: "person" },
    h("span", { class: "avatar", "aria-hidden": "true" }, initials(name)),
    h(
      "div",
      { class: "person-text" },
      h("a", { class: "person-name", href: link("admin", "users", user.id) }, name),
      h("span", { class: "cell-more" }, [`@${user.username}`, user.email].filter(Boolean).join(" · ")),
    ),
    user.is_admin && pill("Admin", "accent"),
  );
}

/** @param {{status: string}} one */
export function statusPill({ status }) {
  return status === "active" ? pill("Active", "good") : pill("Disabled", "bad");
}
