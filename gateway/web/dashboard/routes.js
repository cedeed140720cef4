/** The pages of the dashboard. */

import { ADMIN_ROUTES } from "./pages/admin/routes.js";

/** @type {readonly import("./router.js").Route[]} */
export const ROUTES = [
  { path: "/", title: "Overview", icon: "overview", load: () => import("./pages/overview.js") },
  {
    path: "/organizations",
    title: "Organizations",
    short: "Orgs",
    icon: "organizations",
    load: () => import("./pages/organizations.js"),
  },
  { path: "/organizations/:id", title: "Organization", load: () => import("./pages/organization.js") },
  { path: "/security", title: "Security", icon: "security", load: () => import("./pages/security.js") },
  { path: "/account", title: "Account", icon: "account", load: () => import("./pages/account.js") },
  ...ADMIN_ROUTES,
];
