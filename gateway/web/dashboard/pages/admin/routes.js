/** The pages for administrators. */

/** @type {readonly import("../../router.js").Route[]} */
export const ADMIN_ROUTES = [];
