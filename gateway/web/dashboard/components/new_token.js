/** Making an API token. Its secret is shown once: when the dialog is closed, nothing has it any more. */

import { h, setShown } from "../dom.js";
import { now } from "../clock.js";
import { openDialog, showOnce } from "./dialog.js";
import { checkBox, choiceField, form, textField } from "./field.js";
import { note } from "./layout.js";

/** @typedef {import("../app.js").Context} Context */

/** @type {[string, string][]} */
const ENDS = [
  ["7", "In 7 days"],
  ["30", "In 30 days"],
  ["90", "In 90 days"],
  ["365", "In a year"],
  ["", "Never"],
];
const DAY_MS = 86_400_000;
const SPEND = "quotas.spend";

/** @param {Context} context @param {() => Promise<void>} made called when there is a new one */
export async function openNewToken(context, made) {
  const name = textField(
    "Name",
    { maxlength: 100, test: "new-token-name" },
    { hint: "What it is for: “kitchen speaker”." },
  );
  const ends = choiceField("Ends", ENDS, { value: "90", test: "new-token-ends" });
  const scopes = scopeFields(context);
  const submit = async () => {
    if (name.input.value.trim() === "") {
      name.complain("A name is needed.");
      name.input.focus();
      return;
    }
    const days = Number(ends.input.value);
    const expires_at = days === 0 ? null : new Date(now() + days * DAY_MS).toISOString();
    const body = { name: name.input.value.trim(), expires_at, scopes: scopes.chosen() };
    const { token } = await context.api.post("/auth/tokens", body);
    opened.close();
    await showSecret(token);
    await made();
  };
  const about = { verb: "Make token", verbTest: "new-token-submit", test: "new-token-form", label: "New API token" };
  const fields = form(about, submit, h("div", { class: "form-row" }, name.element, ends.element), scopes.element);
  const opened = openDialog("New API token", { signal: context.signal }, fields);
  name.input.focus();
}

/** What the token may use. @param {Context} context */
function scopeFields(context) {
  const names = [...new Set([...context.channel.permissions, SPEND])].sort();
  const boxes = names.map((name) => ({ name, ...checkBox(h("code", null, name)) }));
  const all = h("input", { type: "radio", name: "scopes", checked: true });
  const some = h("input", { type: "radio", name: "scopes", test: "new-token-narrow" });
  const list = h(
    "div",
    { class: "check-list", role: "group", "aria-label": "Permissions", hidden: true },
    boxes.map((box) => box.element),
  );
  const element = h(
    "fieldset",
    { class: "fieldset" },
    h("legend", null, "May use"),
    h("label", { class: "check" }, all, h("span", null, "Everything that you may")),
    h("label", { class: "check" }, some, h("span", null, "Only what you choose")),
    list,
  );
  element.addEventListener("change", () => setShown(list, some.checked));
  const chosen = () =>
    some.checked ? { permissions: boxes.filter(({ input }) => input.checked).map((box) => box.name) } : null;
  return { element, chosen };
}

/** @param {string} secret */
async function showSecret(secret) {
  const about = { class: "secret", tabindex: "0", "aria-label": "The token", test: "new-token-secret" };
  const warning = note("warning", "Copy it now: it is not shown again, and nobody can look it up.");
  await showOnce("Your new token", h("code", about, secret), { copy: "Copy token", test: "new-token" }, warning);
}
