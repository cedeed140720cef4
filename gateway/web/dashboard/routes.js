/** The pages of the dashboard. */

import { ADMIN_ROUTES } from "./pages/admin/routes.js";

/** @type {readonly import("./router.js").Route[]} */
export const ROUTES = [
  { path: "/", title: "Overview", icon: "overview", load: () => import("./pages/overview.js") },
  ...ADMIN_ROUTES,
];
