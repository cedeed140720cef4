/** The quotas of a user, each with the way to why it is so and how to change it. */

import { h, KeyedList, setShown } from "../../dom.js";
import { eachWhileSeen } from "../../frame.js";
import { button } from "../../components/button.js";
import { emptyState } from "../../components/layout.js";
import { inOrder, quotaView } from "../../components/quota.js";
import { UsageHistory } from "../../usage.js";
import { quotaDialog } from "./quota_dialog.js";

/** @typedef {import("./subject.js").Subject} Subject */
/** @typedef {[name: string, quota: import("../../components/quota.js").Quota]} Named */

const REDRAWN_MS = 5000;

/** @param {Subject} subject */
export function quotasSection(subject) {
  const { context, doc, mayWrite } = subject;
  const usage = new UsageHistory();
  const tiles = h("div", { class: "quotas" });
  const none = emptyState("overview", "No quotas", "Neither the plan nor an override sets one.");
  const list = new KeyedList(
    tiles,
    (/** @type {Named} */ [name]) => name,
    ([name]) => tile(subject, usage, name),
  );
  const draw = () => {
    const quotas = subject.document?.quotas ?? {};
    usage.note(quotas, Date.now());
    list.show(inOrder(quotas).map((name) => /** @type {Named} */ ([name, quotas[name]])));
    setShown(none, list.size === 0);
    setShown(tiles, list.size > 0);
  };
  context.live.document(draw, context.signal, doc);
  eachWhileSeen(draw, REDRAWN_MS, context.signal);
  draw();
  const add = mayWrite && button("Override…", () => quotaDialog(subject, null), { icon: "plus", test: "override" });
  return h(
    "section",
    { class: "section", "aria-labelledby": "user-quotas" },
    h("div", { class: "section-head" }, h("h2", { id: "user-quotas" }, "Quotas"), add),
    tiles,
    none,
  );
}

/** @param {Subject} subject @param {UsageHistory} usage @param {string} name */
function tile(subject, usage, name) {
  const { element, update } = quotaView(name, { test: `quota-${name}`, samples: () => usage.of(name) });
  const label = subject.mayWrite ? "Why, override, adjust" : "Why?";
  const open = () => quotaDialog(subject, name);
  element.append(button(label, open, { small: true, label: `${label}: ${name}`, test: `open-${name}` }));
  return { element, update: (/** @type {Named} */ [, quota]) => update(quota) };
}
