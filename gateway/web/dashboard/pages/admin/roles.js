/** The roles. */

import { h } from "../../dom.js";
import { link } from "../../router.js";
import { card, emptyState, page } from "../../components/layout.js";
import { PagedTable } from "../../components/paged.js";
import { names, newLink } from "./plans.js";

/** @param {import("../../app.js").Context} context */
export function mount(context) {
  const { api, session, signal } = context;
  const roles = new PagedTable({
    caption: "Roles",
    columns: [
      { title: "Role", kind: "main", cell: roleName },
      { title: "Permissions", cell: (role) => names(role.permissions) },
    ],
    load: (cursor) => api.get("/roles", { query: { cursor, limit: 50 }, signal }),
    test: (role) => `role-${role.id}`,
    empty: () =>
      emptyState("key", "No roles", "A role gives permissions to whoever has it, besides those of the plan."),
    noun: "role",
    signal,
  });
  void roles.reload();
  const create = session.may("roles.write") && newLink("roles", "New role");
  const lead = "Permissions that users are given besides those of their plan.";
  return page("Roles", { lead, actions: create }, card("All roles", { flush: true }, roles.element));
}

/** @param {any} role */
function roleName(role) {
  const href = link("admin", "roles", role.id);
  return [
    h("a", { class: "person-name", href }, role.name || role.id),
    h("div", { class: "cell-more" }, h("code", null, role.id)),
  ];
}
