/** Who somebody is, what they may do, and what they have left: all of it as it moves. */

import { h, replace, setMark, setShown, setText } from "../dom.js";
import { day, initials } from "../format.js";
import { eachWhileSeen } from "../frame.js";
import { card, page, pill, terms } from "../components/layout.js";
import { permissionsCard } from "../components/permissions.js";
import { quotasView } from "../components/quotas.js";

const REDRAWN_MS = 5000;

/** @param {import("../app.js").Context} context */
export function mount(context) {
  const { live, signal } = context;
  const identity = identityCard();
  const permissions = permissionsCard(signal);
  const none = "The plan has no quotas, and nobody has given you any.";
  const quotas = quotasView({ test: (name) => `quota-${name}`, usage: live.usage, none });
  /** @type {Record<string, true> | null} */
  let held = null;
  live.document((data) => {
    identity.update(data.identity);
    quotas.update(data.quotas);
    if (data.permissions !== held) {
      held = data.permissions;
      permissions.update(Object.keys(data.permissions));
    }
  }, signal);
  eachWhileSeen(quotas.redraw, REDRAWN_MS, signal);
  const tiles = h(
    "section",
    { class: "section", "aria-labelledby": "quotas-title" },
    h("h2", { id: "quotas-title" }, "Quotas"),
    quotas.element,
  );
  return page("Overview", { lead: "What holds for you at this moment." }, identity.element, tiles, permissions.element);
}

/** The card that says who somebody is. */
function identityCard() {
  const avatar = h("span", { class: "avatar avatar-large", "aria-hidden": "true" });
  const name = h("p", { class: "identity-name", test: "identity-name" });
  const more = h("p", { class: "identity-more" });
  const plan = pill("", "accent", { test: "identity-plan" });
  const status = pill("Disabled", "bad", { hidden: true });
  const admin = pill("Administrator", "neutral", { hidden: true });
  const details = h("div", { class: "identity-details" });
  const head = h(
    "div",
    { class: "identity" },
    avatar,
    h("div", { class: "identity-text" }, name, more),
    h("div", { class: "identity-pills" }, plan, admin, status),
  );
  let shown = "";
  const update = (/** @type {any} */ identity) => {
    setText(avatar, initials(identity.name || identity.username));
    setText(name, identity.name || identity.username);
    setText(more, [`@${identity.username}`, identity.email].filter(Boolean).join(" · "));
    setText(plan, `Plan: ${identity.plan}`);
    setShown(admin, identity.is_admin === true);
    setShown(status, identity.status !== "active");
    const known = JSON.stringify([identity.id, identity.created_at, identity.attributes]);
    if (known !== shown) {
      shown = known;
      replace(details, terms(detailsOf(identity)));
    }
  };
  const element = card("You", { class: "card-identity" }, head, details);
  setMark(element, "data-test", "identity");
  return { element, update };
}

/** @param {any} identity @returns {[string, import("../dom.js").Child][]} */
function detailsOf(identity) {
  const attributes = Object.entries(identity.attributes ?? {}).map(
    ([name, value]) =>
      /** @type {[string, string]} */ ([name, typeof value === "string" ? value : JSON.stringify(value)]),
  );
  return [["User ID", h("code", null, identity.id)], ["Since", day(identity.created_at)], ...attributes];
}
