/** The names of permissions and quotas that plans and roles know, to be suggested. */

import { freshId, h } from "../../dom.js";

/**
 * @param {import("../../app.js").Context} context
 * @returns {Promise<{permissions: string[], quotas: string[], plans: any[], roles: any[]}>} empty where they can not be
 *   read: suggestions are a help, no more
 */
export async function knownNames({ api, signal }) {
  const [plans, roles] = await Promise.all([
    api.all("/plans", { signal }).catch(() => []),
    api.all("/roles", { signal }).catch(() => []),
  ]);
  const permissions = [...plans, ...roles].flatMap((one) => one.permissions);
  const quotas = plans.flatMap((plan) => Object.keys(plan.quotas));
  return { permissions: [...new Set(permissions)].sort(), quotas: [...new Set(quotas)].sort(), plans, roles };
}

/**
 * The ids of plans, to be suggested; of very many not all, and a field takes the others too.
 *
 * @param {import("../../app.js").Context} context
 * @returns {Promise<string[]>}
 */
export async function knownPlans({ api, signal }) {
  const plans = await api.all("/plans", { signal }).catch(() => []);
  return plans.map((plan) => plan.id);
}

/** Lets a field suggest names. @param {HTMLInputElement} input @param {string[]} names */
export function suggestions(input, names) {
  const list = h(
    "datalist",
    { id: freshId("names") },
    names.map((name) => h("option", { value: name })),
  );
  input.after(list);
  input.setAttribute("list", list.id);
}
