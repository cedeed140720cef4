/** All organizations. */

import { h } from "../../dom.js";
import { day } from "../../format.js";
import { link } from "../../router.js";
import { card, emptyState, page } from "../../components/layout.js";
import { PagedTable } from "../../components/paged.js";
import { statusPill } from "./users.js";

/** @param {import("../../app.js").Context} context */
export function mount({ api, signal }) {
  const organizations = new PagedTable({
    caption: "Organizations",
    columns: [
      { title: "Organization", kind: "main", cell: organizationName },
      { title: "Plan", cell: (/** @type {any} */ one) => h("code", null, one.plan) },
      { title: "Status", cell: statusPill },
      { title: "Since", cell: (/** @type {any} */ one) => day(one.created_at) },
    ],
    load: (cursor) => api.get("/orgs", { query: { cursor, limit: 50 }, signal }),
    test: (/** @type {any} */ one) => `organization-${one.id}`,
    empty: () => emptyState("organizations", "No organizations", "Nobody has made one yet."),
    noun: "organization",
    signal,
  });
  void organizations.reload();
  const lead = "Every organization, with its plan, whose quotas its members share.";
  return page("All organizations", { lead }, card("Organizations", { flush: true }, organizations.element));
}

/** @param {any} one */
function organizationName(one) {
  const href = link("admin", "organizations", one.id);
  return [
    h("a", { class: "person-name", href }, one.name || one.id),
    h("div", { class: "cell-more" }, h("code", null, one.id)),
  ];
}
