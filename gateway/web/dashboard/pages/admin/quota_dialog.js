/** One quota of a user: why it is as it is, an override of the plan's limit, and a correction of what was used. */

import { h, replace } from "../../dom.js";
import { nameProblem } from "../../names.js";
import { own as ownOf } from "../../own.js";
import { openDialog } from "../../components/dialog.js";
import { choiceField, form, refused, textField } from "../../components/field.js";
import { loading } from "../../components/loading.js";
import { HERE, momentField } from "../../components/moment_field.js";
import { tabs } from "../../components/tabs.js";
import { tellingButton } from "../../components/telling_button.js";
import { quotaExplained } from "./explanation.js";
import { knownNames, suggestions } from "./known_names.js";
import { limitFields } from "./limit_fields.js";
import { mayWatchUsers } from "./rights.js";
import { onceChanged } from "./watched.js";

/** @typedef {import("./subject.js").Subject} Subject */

/**
 * @param {Subject} subject
 * @param {string | null} name `null`: an override of a quota that is asked for
 */
export function quotaDialog(subject, name) {
  const { context } = subject;
  const closing = new AbortController();
  const content = h("div", { class: "dialog-part" });
  const title = name === null ? "Override a quota" : name;
  const opened = openDialog(title, { signal: context.signal, class: "dialog-edit" }, content);
  void opened.closed.then(() => closing.abort());
  if (name === null) {
    replace(content, overrideForm(subject, null, opened.close));
    return;
  }
  const parts = [{ title: "Why", element: h("div", { class: "why" }, explained(subject, name, closing.signal)) }];
  if (subject.mayWrite) {
    parts.push({ title: "Override", element: h("div", null, overrideForm(subject, name, opened.close)) });
    parts.push({ title: "Adjust", element: h("div", null, adjustForm(subject, name, opened.close)) });
  }
  replace(content, tabs(name, parts));
}

/** @param {Subject} subject @param {string} name @param {AbortSignal} signal */
function explained({ context, id, doc }, name, signal) {
  if (!mayWatchUsers(context.session) && doc !== context.channel.principal) {
    return h("p", { class: "hint" }, "Reasons are told to whoever has the permission users.read.");
  }
  const query = { user: id, quota: name };
  const asked = loading(() => context.api.get("/api/explain", { query, signal }), quotaExplained, signal);
  onceChanged(context, doc, signal, () => void asked.reload());
  return asked.element;
}

/** @param {Subject} subject @param {string | null} name @param {() => void} close */
function overrideForm(subject, name, close) {
  const { context, grants } = subject;
  const own = grants.quotas.find((override) => override.quota === name) ?? null;
  const called =
    name === null ? textField("Quota", { spellcheck: "false", autocapitalize: "none", test: "override-name" }) : null;
  const balance = name === null ? undefined : ownOf(subject.document?.quotas, name);
  const limit = limitFields(own ?? (balance && { ...balance, limit: balance.limit ?? null }));
  const starts = momentField("From", { value: own?.starts_at, hint: "Empty: at once" });
  const ends = momentField("Until", { value: own?.expires_at, hint: "Empty: for good" });
  called && void knownNames(context).then(({ quotas }) => suggestions(called.input, quotas));
  const submit = async () => {
    const quota = name ?? called?.input.value.trim() ?? "";
    const wanted = limit.read();
    const unknown = called !== null && refused(called, nameProblem(quota, "quota"));
    if (unknown || wanted === null) {
      return;
    }
    const body = { ...wanted, starts_at: starts.moment(), expires_at: ends.moment() };
    await subject.edit(`Override ${quota}`, () => context.api.put(subject.path("quotas", quota), body));
    subject.tell(`${quota} was overridden.`);
    close();
  };
  const remove = own !== null && removeButton(subject, own.quota, close);
  const lead = h("p", { class: "hint" }, "An override stands in the place of the plan’s limit, for this user alone.");
  const dates = h("div", { class: "form-row" }, starts.element, ends.element);
  const zone = h("p", { class: "hint" }, `Dates are in your time zone, ${HERE}.`);
  const about = { verb: "Override", beside: remove, verbTest: "override-apply" };
  return form(about, submit, lead, called?.element, limit.element, dates, zone);
}

/** @param {Subject} subject @param {string} name @param {() => void} close */
function removeButton(subject, name, close) {
  const path = subject.path("quotas", name);
  const remove = async () => {
    await subject.edit(`Leave ${name} to the plan`, () => subject.context.api.delete(path));
    subject.tell(`${name} is left to the plan.`);
    close();
  };
  return tellingButton("Leave it to the plan", remove, { kind: "quiet-danger", test: "override-remove" });
}

/** @param {Subject} subject @param {string} name @param {() => void} close */
function adjustForm(subject, name, close) {
  const ways = /** @type {[string, string][]} */ ([
    ["amount", "Add to what was used"],
    ["used", "Set what was used"],
  ]);
  const way = choiceField("How", ways);
  const number = textField(
    "Units",
    { inputmode: "numeric", test: "adjust-units" },
    { hint: "Below zero gives units back." },
  );
  const reason = textField(
    "Reason",
    { maxlength: 200, test: "adjust-reason" },
    { hint: "It stands in the ledger and in the audit trail." },
  );
  const submit = async () => {
    const units = Number(number.input.value.trim());
    const good =
      number.input.value.trim() !== "" && Number.isSafeInteger(units) && (way.input.value !== "used" || units >= 0);
    const why = reason.input.value.trim();
    number.complain(
      good ? null : way.input.value === "used" ? "A whole number, 0 or more." : "A whole number, such as -30.",
    );
    reason.complain(why === "" ? "Say why: it stays in the books." : null);
    if (!good || why === "") {
      (good ? reason : number).input.focus();
      return;
    }
    const body = { [way.input.value]: units, reason: why };
    const path = subject.path("quotas", name, "adjust");
    await subject.edit(`Adjust ${name}`, () => subject.context.api.post(path, body));
    subject.tell(`${name} was adjusted.`);
    close();
  };
  const row = h("div", { class: "form-row" }, way.element, number.element);
  return form({ verb: "Adjust", verbTest: "adjust-apply" }, submit, row, reason.element);
}
