/** What is common to organizations wherever they are shown. */

import { h } from "../dom.js";
import { initials } from "../format.js";
import { own } from "../own.js";
import { pill } from "./layout.js";

const ROLES = /** @type {Record<string, string>} */ ({ owner: "Owner", admin: "Admin", member: "Member" });

/** @param {string} role */
export function roleName(role) {
  return own(ROLES, role) ?? role;
}

/** @param {string} role */
export function rolePill(role) {
  return pill(roleName(role), role === "member" ? "neutral" : "accent");
}

/** @param {string} name */
export function organizationAvatar(name) {
  return h("span", { class: "avatar", "aria-hidden": "true" }, initials(name));
}
