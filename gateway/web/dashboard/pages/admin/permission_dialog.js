/** One permission of a user: why it is as it is, and how that is changed. */

import { h, replace } from "../../dom.js";
import { nameProblem } from "../../names.js";
import { openDialog } from "../../components/dialog.js";
import { choiceField, form, refused, textField } from "../../components/field.js";
import { loading } from "../../components/loading.js";
import { HERE, momentField } from "../../components/moment_field.js";
import { tellingButton } from "../../components/telling_button.js";
import { knownNames, suggestions } from "./known_names.js";
import { permissionExplained } from "./explanation.js";
import { mayWatchUsers } from "./rights.js";
import { onceChanged } from "./watched.js";

/** @typedef {import("./subject.js").Subject} Subject */

/**
 * @param {Subject} subject
 * @param {string | null} name `null`: it is asked for
 */
export function permissionDialog(subject, name) {
  const { context } = subject;
  const closing = new AbortController();
  const why = h("div", { class: "why" });
  const change = h("div", { class: "dialog-part" });
  const title = name === null ? "Grant or deny a permission" : name;
  const opened = openDialog(title, { signal: context.signal, class: "dialog-edit" }, why, change);
  void opened.closed.then(() => closing.abort());
  if (name !== null) {
    explained(subject, name, why, closing.signal);
  }
  if (subject.mayWrite) {
    replace(
      change,
      name === null ? null : h("h3", null, "For this user alone"),
      grantForm(subject, name, opened.close),
    );
  }
}

/** @param {Subject} subject @param {string} name @param {HTMLElement} place @param {AbortSignal} signal */
function explained({ context, id, doc }, name, place, signal) {
  if (!mayWatchUsers(context.session) && doc !== context.channel.principal) {
    replace(place, h("p", { class: "hint" }, "Reasons are told to whoever has the permission users.read."));
    return;
  }
  const query = { user: id, permission: name };
  const asked = loading(() => context.api.get("/api/explain", { query, signal }), permissionExplained, signal);
  onceChanged(context, doc, signal, () => void asked.reload());
  replace(place, asked.element);
}

/** @param {Subject} subject @param {string | null} name @param {() => void} close */
function grantForm(subject, name, close) {
  const { context, grants } = subject;
  const own = grants.permissions.find((grant) => grant.permission === name) ?? null;
  const called =
    name === null ? textField("Permission", { spellcheck: "false", autocapitalize: "none", test: "grant-name" }) : null;
  const effects = /** @type {[string, string][]} */ ([
    ["allow", "Grant it"],
    ["deny", "Deny it"],
  ]);
  const effect = choiceField("What", effects, { value: own?.effect ?? "allow", test: "grant-effect" });
  const starts = momentField("From", { value: own?.starts_at, hint: "Empty: at once" });
  const ends = momentField("Until", { value: own?.expires_at, hint: "Empty: for good" });
  called && void suggest(called.input, context);
  const submit = async () => {
    const wanted = name ?? called?.input.value.trim() ?? "";
    if (called && refused(called, nameProblem(wanted, "permission"))) {
      return;
    }
    const body = { effect: effect.input.value, starts_at: starts.moment(), expires_at: ends.moment() };
    const title = `${body.effect === "allow" ? "Grant" : "Deny"} ${wanted}`;
    await subject.edit(title, () => context.api.put(subject.path("permissions", wanted), body));
    subject.tell(`${wanted} was ${body.effect === "allow" ? "granted" : "denied"}.`);
    close();
  };
  const remove = own !== null && removeButton(subject, own.permission, close);
  const zone = h("p", { class: "hint" }, `Dates are in your time zone, ${HERE}.`);
  const dates = h("div", { class: "form-row" }, starts.element, ends.element);
  return form(
    { verb: "Apply", beside: remove, verbTest: "grant-apply" },
    submit,
    called?.element,
    effect.element,
    dates,
    zone,
  );
}

/** @param {Subject} subject @param {string} name @param {() => void} close */
function removeButton(subject, name, close) {
  const path = subject.path("permissions", name);
  const remove = async () => {
    await subject.edit(`Leave ${name} to plan and roles`, () => subject.context.api.delete(path));
    subject.tell(`${name} is left to plan and roles.`);
    close();
  };
  return tellingButton("Leave it to plan and roles", remove, { kind: "quiet-danger", test: "grant-remove" });
}

/** @param {HTMLInputElement} input @param {import("../../app.js").Context} context */
async function suggest(input, context) {
  suggestions(input, (await knownNames(context)).permissions);
}
