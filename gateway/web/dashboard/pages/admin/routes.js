/**
 * The pages for administrators, and for whoever was given a part of administration.
 *
 * For tests, `data-test` stands besides those of `dom.js` on: rows `user-ID`, `plan-ID`, `role-ID`, `organization-ID`,
 * `member-ID`, `session-ID`, `token-ID`, `node-NAME`, `change-SEQ`, `audit-ID`, and `more` for the next page; of the
 * users `user-search`, `new-user`, `make-user`; of one user `user-identity`, `user-plan`, `user-status`, `edit-log`
 * (its entries have `data-state`), `permission-NAME` (`data-held`: `held`, `denied`, `not-held`), `grant`,
 * `grant-name`, `grant-effect`, `grant-apply`, `grant-remove`, `verdict`, `quota-NAME`, `open-NAME`, `override`,
 * `override-name`, `limit`, `override-apply`, `override-remove`, `adjust-units`, `adjust-reason`, `adjust-apply`,
 * `give-role`, `role-choice`, `role-give`, `account`, `account-name`, `account-status`, `account-plan`,
 * `account-save`, `overtaken`, `reload`, `credentials`, `end-all`, `delete-user`; of a plan `new-plans`, `plan-id`,
 * `plan-name`, `plan-permissions`, `plan-quotas`, `add-name`, `add-name-button`, `remove-NAME`, `add-quota`,
 * `plan-quota-NAME`, `limit-NAME`, `plan-save`, `delete-plan`, `preview`, `preview-gained-NAME`, `preview-lost-NAME`,
 * `preview-quota-NAME`; of instances `instance-ID`, `new-instance`, `make-instance`, `instance-name`, `instance-rate`,
 * `instance-save`, `instance-status`, `instance-turn`, `delete-instance`, `instance-keys`, `key-KID`, `new-key`,
 * `new-key-overlap`, `new-key-ends`, `make-key`, `instance-secret`, `instance-secret-done`,
 * `instance-connections`; of the rest `pool-NAME`, `session-user`, `refresh`, `follow-state`, `pause`, `filter-doc`,
 * `filter-cause`, `audit-user`, `audit-action`, `audit-since`, and the charts `chart-connected`, `chart-pushes`,
 * `chart-latency`, `chart-http`, `chart-ended`.
 */

import { isAdmin, mayReadOrganizations, mayReadPlans, mayReadRoles, mayReadUsers } from "./rights.js";

/** @type {readonly import("../../router.js").Route[]} */
export const ADMIN_ROUTES = [
  {
    path: "/admin/users",
    title: "Users",
    icon: "users",
    group: "admin",
    needs: mayReadUsers,
    load: () => import("./users.js"),
  },
  { path: "/admin/users/:id", title: "User", group: "admin", needs: mayReadUsers, load: () => import("./user.js") },
  {
    path: "/admin/organizations",
    title: "All organizations",
    icon: "organizations",
    group: "admin",
    needs: mayReadOrganizations,
    load: () => import("./organizations.js"),
  },
  {
    path: "/admin/organizations/:id",
    title: "Organization",
    group: "admin",
    needs: mayReadOrganizations,
    load: () => import("./organization.js"),
  },
  {
    path: "/admin/plans",
    title: "Plans",
    icon: "plans",
    group: "admin",
    needs: mayReadPlans,
    load: () => import("./plans.js"),
  },
  { path: "/admin/plans/:id", title: "Plan", group: "admin", needs: mayReadPlans, load: () => import("./plan.js") },
  {
    path: "/admin/roles",
    title: "Roles",
    icon: "key",
    group: "admin",
    needs: mayReadRoles,
    load: () => import("./roles.js"),
  },
  { path: "/admin/roles/:id", title: "Role", group: "admin", needs: mayReadRoles, load: () => import("./role.js") },
  {
    path: "/admin/instances",
    title: "Server instances",
    icon: "instances",
    group: "admin",
    needs: isAdmin,
    load: () => import("./instances.js"),
  },
  {
    path: "/admin/instances/:id",
    title: "Server instance",
    group: "admin",
    needs: isAdmin,
    load: () => import("./instance.js"),
  },
  {
    path: "/admin/sessions",
    title: "Connections",
    icon: "sessions",
    group: "admin",
    needs: isAdmin,
    load: () => import("./sessions.js"),
  },
  {
    path: "/admin/changes",
    title: "Changes",
    icon: "changes",
    group: "admin",
    needs: isAdmin,
    load: () => import("./changes.js"),
  },
  {
    path: "/admin/audit",
    title: "Audit trail",
    icon: "audit",
    group: "admin",
    needs: isAdmin,
    load: () => import("./audit.js"),
  },
  { path: "/admin/node", title: "Node", icon: "node", group: "admin", needs: isAdmin, load: () => import("./node.js") },
];
