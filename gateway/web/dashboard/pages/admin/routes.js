/** The pages for administrators, and for whoever was given a part of administration. */

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
