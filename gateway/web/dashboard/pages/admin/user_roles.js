/** The roles of a user. */

import { h, replace } from "../../dom.js";
import { now } from "../../clock.js";
import { moment } from "../../format.js";
import { nameProblem } from "../../names.js";
import { acting, button } from "../../components/button.js";
import { openDialog } from "../../components/dialog.js";
import { form, refused, textField } from "../../components/field.js";
import { card, emptyState, pill } from "../../components/layout.js";
import { momentField } from "../../components/moment_field.js";
import { table } from "../../components/table.js";
import { knownNames, suggestions } from "./known_names.js";

/** @typedef {import("./subject.js").Subject} Subject */
/** @typedef {import("./subject.js").Grants["roles"][number]} Role */

/** @param {Subject} subject */
export function rolesCard(subject) {
  const place = h("div");
  const draw = () => {
    const { roles } = subject.grants;
    const none = () => emptyState("key", "No roles", "A role gives permissions besides those of the plan.");
    replace(
      place,
      roles.length === 0 ? none() : table("Roles", columns(subject), roles, { test: (role) => `role-${role.role}` }),
    );
  };
  subject.onGrants(draw);
  draw();
  const add =
    subject.mayWrite && button("Give a role…", () => roleDialog(subject), { icon: "plus", test: "give-role" });
  return card("Roles", { actions: add, flush: true }, place);
}

/** @param {Subject} subject @returns {import("../../components/table.js").Column<Role>[]} */
function columns(subject) {
  const take = (/** @type {Role} */ { role }) => {
    const path = subject.path("roles", role);
    const act = () => subject.edit(`Take the role ${role}`, () => subject.context.api.delete(path));
    const made = button("Take", () => void acting(made, act), {
      kind: "quiet-danger",
      small: true,
      label: `Take the role ${role}`,
    });
    return made;
  };
  /** @type {import("../../components/table.js").Column<Role>[]} */
  const shown = [
    { title: "Role", kind: "main", cell: (role) => h("code", null, role.role) },
    { title: "Until", cell: (role) => untilWords(role) },
  ];
  return subject.mayWrite ? [...shown, { title: "Take", kind: "actions", quiet: true, cell: take }] : shown;
}

/** @param {Role} role */
function untilWords({ expires_at: end }) {
  if (end === null) {
    return "for good";
  }
  return Date.parse(end) <= now() ? [moment(end), " ", pill("Over", "warn")] : moment(end);
}

/** @param {Subject} subject */
function roleDialog(subject) {
  const { context } = subject;
  const role = textField("Role", { spellcheck: "false", autocapitalize: "none", test: "role-choice" });
  const ends = momentField("Until", { hint: "Empty: for good" });
  void knownNames(context).then(({ roles }) =>
    suggestions(
      role.input,
      roles.map((one) => one.id),
    ),
  );
  const submit = async () => {
    const name = role.input.value.trim();
    if (refused(role, nameProblem(name, "role"))) {
      return;
    }
    const path = subject.path("roles", name);
    await subject.edit(`Give the role ${name}`, () => context.api.put(path, { expires_at: ends.moment() }));
    subject.tell(`The role ${name} was given.`);
    opened.close();
  };
  const content = form({ verb: "Give", verbTest: "role-give" }, submit, role.element, ends.element);
  const opened = openDialog("Give a role", { signal: context.signal }, content);
  role.input.focus();
}
