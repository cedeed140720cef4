/** The organizations that somebody is a member of. */

import { h, KeyedList, replace, setShown } from "../dom.js";
import { counted, figure, inEnglish } from "../format.js";
import { icon } from "../components/icon.js";
import { emptyState, page } from "../components/layout.js";
import { organizationAvatar, rolePill } from "../components/organization.js";
import { link } from "../router.js";

const POOLS_SHOWN = 3;

/** @typedef {import("../components/quota.js").Quota} Quota */
/** @typedef {{id: string, name: string, role: string, quotas: Record<string, Quota>}} Membership */

/** @param {import("../app.js").Context} context */
export function mount(context) {
  const tiles = h("div", { class: "organizations" });
  const list = new KeyedList(tiles, (/** @type {Membership} */ { id }) => id, organizationTile);
  const none = emptyState("organizations", "No organizations", "Whoever manages one can make you a member.");
  context.live.document((data) => {
    const memberships = Object.entries(data.organizations).map(([id, membership]) => ({ id, ...membership }));
    memberships.sort((one, other) => (one.name || one.id).localeCompare(other.name || other.id));
    list.show(memberships);
    setShown(none, memberships.length === 0);
  }, context.signal);
  return page("Organizations", { lead: "Whose pools you share." }, none, tiles);
}

/**
 * @param {Membership} membership
 * @returns {import("../dom.js").Part<Membership>}
 */
function organizationTile({ id }) {
  const element = h("a", { class: "organization", href: link("organizations", id), test: `organization-${id}` });
  let shown = "";
  const update = (/** @type {Membership} */ membership) => {
    const now = JSON.stringify(membership);
    if (now !== shown) {
      shown = now;
      draw(element, membership);
    }
  };
  return { element, update };
}

/** @param {HTMLElement} element @param {Membership} membership */
function draw(element, { id, name, role, quotas }) {
  const pools = Object.entries(quotas).sort(([one], [other]) => (one < other ? -1 : 1));
  const more = pools.length - POOLS_SHOWN;
  replace(
    element,
    h(
      "div",
      { class: "organization-head" },
      organizationAvatar(name || id),
      h(
        "div",
        { class: "organization-name" },
        h("h2", null, name || id),
        h("p", null, h("code", { class: "cell-more" }, id), rolePill(role)),
      ),
      icon("chevron"),
    ),
    h(
      "div",
      { class: "organization-line" },
      pools.slice(0, POOLS_SHOWN).map(([quota, pool]) => poolLine(quota, pool)),
      more > 0 && h("p", null, `and ${counted(more, "more pool", "more pools")}`),
      pools.length === 0 && h("p", null, "No pools"),
    ),
  );
}

/** @param {string} name @param {Quota} pool */
function poolLine(name, pool) {
  const left =
    pool.limit === undefined
      ? `${figure(pool.used)} used, no limit`
      : `${figure(pool.remaining ?? 0)} of ${figure(pool.limit)} left`;
  return h("p", null, h("span", null, inEnglish(name)), h("span", null, left));
}
