/** The quotas of a user, each with the way to why it is so and how to change it. */

import { h } from "../../dom.js";
import { eachWhileSeen } from "../../frame.js";
import { button } from "../../components/button.js";
import { quotasView } from "../../components/quotas.js";
import { UsageHistory } from "../../usage.js";
import { quotaDialog } from "./quota_dialog.js";

/** @typedef {import("./subject.js").Subject} Subject */

const REDRAWN_MS = 5000;

/** @param {Subject} subject */
export function quotasSection(subject) {
  const { context, doc, mayWrite } = subject;
  const usage = new UsageHistory();
  const view = quotasView({
    test: (name) => `quota-${name}`,
    usage,
    none: "Neither the plan nor an override sets one.",
    foot: (name) => openButton(subject, name),
  });
  const draw = () => {
    const quotas = subject.document?.quotas ?? {};
    usage.note(quotas, Date.now());
    view.update(quotas);
  };
  context.live.document(draw, context.signal, doc);
  eachWhileSeen(view.redraw, REDRAWN_MS, context.signal);
  draw();
  const add = mayWrite && button("Override…", () => quotaDialog(subject, null), { icon: "plus", test: "override" });
  return h(
    "section",
    { class: "section", "aria-labelledby": "user-quotas" },
    h("div", { class: "section-head" }, h("h2", { id: "user-quotas" }, "Quotas"), add),
    view.element,
  );
}

/** @param {Subject} subject @param {string} name */
function openButton(subject, name) {
  const label = subject.mayWrite ? "Why, override, adjust" : "Why?";
  const open = () => quotaDialog(subject, name);
  return button(label, open, { small: true, label: `${label}: ${name}`, test: `open-${name}` });
}
