/** Who may see and change what here. The gateway decides; this is what is worth showing. */

/** @typedef {import("../../session.js").Session} Session */

/** @param {Session} session @param {...string} permissions */
function any(session, ...permissions) {
  return permissions.some((permission) => session.may(permission));
}

/** @param {Session} session */
export function isAdmin(session) {
  return session.identity?.is_admin === true;
}

/** @param {Session} session */
export function mayReadUsers(session) {
  return any(session, "users.read", "users.write");
}

/**
 * Whether somebody may change a user; an administrator's account is changed by administrators.
 *
 * @param {Session} session
 * @param {{is_admin?: boolean}} user
 */
export function mayWriteUser(session, user) {
  return session.may("users.write") && (isAdmin(session) || user.is_admin !== true);
}

/** Whether somebody may watch the documents of others, and ask why they are so. @param {Session} session */
export function mayWatchUsers(session) {
  return session.may("users.read");
}

/** @param {Session} session */
export function mayReadPlans(session) {
  return any(session, "plans.write", "users.read", "users.write", "orgs.write");
}

/** @param {Session} session */
export function mayReadRoles(session) {
  return any(session, "roles.write", "users.read", "users.write");
}

/** @param {Session} session */
export function mayReadOrganizations(session) {
  return any(session, "orgs.read", "orgs.write");
}
