/** The audit trail: who did what to whom. */

import { h } from "../../dom.js";
import { moment, wholeMoment } from "../../format.js";
import { differenceView } from "../../components/difference.js";
import { choiceField, textField } from "../../components/field.js";
import { card, emptyState, page, pill } from "../../components/layout.js";
import { momentField } from "../../components/moment_field.js";
import { PagedTable } from "../../components/paged.js";
import { documentLink } from "./changes.js";
import { onceTyped } from "./search_field.js";

const PAGE = 50;
const FIXED = ["id", "created_at", "updated_at"];
const LEAD = "Who did what, when and from where. Attempts of those who may not are counted, not written down.";
const ACTIONS = [
  "session.login",
  "session.login_failed",
  "session.refresh_reused",
  "session.logout",
  "session.revoke",
  "token.issue",
  "token.revoke",
  "password.change",
  "password.change_failed",
  "password.reset",
  "user.create",
  "user.update",
  "user.delete",
  "user.plan",
  "user.permission",
  "user.role",
  "user.quota",
  "quota.adjust",
  "plan.write",
  "plan.delete",
  "role.write",
  "role.delete",
  "org.create",
  "org.update",
  "org.delete",
  "org.member",
  "instance.create",
  "instance.update",
  "instance.delete",
  "instance.key",
  "keys.rotate",
  "revoke.before",
  "import",
];

/** @type {import("../../components/table.js").Column<any>[]} */
const COLUMNS = [
  { title: "What", kind: "main", cell: what },
  { title: "Who", cell: (entry) => [documentLink(entry.actor), h("div", { class: "cell-more" }, entry.address)] },
  { title: "To whom", cell: (entry) => documentLink(entry.target) },
  { title: "What changed", cell: changed },
];

/** @param {import("../../app.js").Context} context */
export function mount({ api, query, signal }) {
  const plain = { spellcheck: "false", autocapitalize: "none" };
  const user = textField("User ID", { ...plain, value: query.get("user") ?? "", test: "audit-user" });
  const actions = ACTIONS.map((name) => /** @type {[string, string]} */ ([name, name]));
  const asked = { value: query.get("action") ?? "", test: "audit-action" };
  const action = choiceField("Action", [["", "Anything"], ...actions], asked);
  const since = momentField("Since", { test: "audit-since" });
  const filter = () => ({ user: user.input.value.trim(), action: action.input.value, since: since.moment() });
  const trail = new PagedTable({
    caption: "Audit trail, the newest first",
    columns: COLUMNS,
    load: (cursor) => api.get("/audit", { query: { ...filter(), cursor, limit: PAGE }, signal }),
    test: (entry) => `audit-${entry.id}`,
    empty: () => emptyState("audit", "Nothing", "Nothing that fits was written down."),
    noun: "entry",
    nouns: "entries",
    signal,
  });
  const fields = [user, action, since];
  fields.forEach(({ input }) => onceTyped(input, () => void trail.reload(), signal));
  void trail.reload();
  const filters = h(
    "div",
    { class: "form-row", role: "search" },
    fields.map(({ element }) => element),
  );
  const entries = card("Entries", { flush: true, class: "audit" }, trail.element);
  return page("Audit trail", { lead: LEAD }, card("Search", {}, filters), entries);
}

/** @param {any} entry */
function what({ action, outcome, at }) {
  return [
    h("span", { class: "chips" }, h("code", null, action), outcome !== "ok" && pill(outcome, "bad")),
    h("div", { class: "cell-more" }, h("time", { datetime: at, title: wholeMoment(at) }, moment(at))),
  ];
}

/** @param {any} entry */
function changed({ before, after }) {
  const nothing = before === null && after === null;
  return nothing ? h("span", { class: "cell-more" }, "–") : differenceView(told(before, after), after);
}

/** What it was before, without what never changes and is not told afterwards. @param {any} before @param {any} after */
function told(before, after) {
  if (before === null || after === null) {
    return before;
  }
  return Object.fromEntries(Object.entries(before).filter(([name]) => name in after || !FIXED.includes(name)));
}
