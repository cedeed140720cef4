/** The permissions of a user: which are held, which were granted or denied to this user alone, and why. */

import { h, KeyedList, setMark, setShown, setText } from "../../dom.js";
import { counted, moment } from "../../format.js";
import { button } from "../../components/button.js";
import { card, emptyState } from "../../components/layout.js";
import { filtered } from "../../components/table.js";
import { permissionDialog } from "./permission_dialog.js";

/** @typedef {import("./subject.js").Subject} Subject */
/** @typedef {import("./subject.js").Grants["permissions"][number]} Grant */
/** @typedef {{name: string, held: boolean, grant: Grant | null}} Row */

const MANY = 12;

/** @param {Subject} subject */
export function permissionsSection(subject) {
  const { context, doc, mayWrite } = subject;
  const element = h("ul", { class: "rights" });
  const list = new KeyedList(
    element,
    (/** @type {Row} */ row) => row.name,
    (row) => rowView(subject, row),
  );
  const search = filtered("Filter permissions", list, (row) => row.name);
  const none = emptyState("security", "No permissions", "The plan and the roles give none, and none were granted.");
  const count = h("span", { class: "pill" });
  const draw = () => {
    const rows = rowsOf(subject);
    const held = rows.filter((row) => row.held).length;
    search.show(rows);
    setText(count, held);
    setMark(count, "aria-label", `${counted(held, "permission")} held`);
    setShown(none, rows.length === 0);
    setShown(search.input, rows.length > MANY || search.input.value !== "");
  };
  subject.onGrants(draw);
  context.live.document(draw, context.signal, doc);
  draw();
  const add =
    mayWrite && button("Grant or deny…", () => permissionDialog(subject, null), { icon: "plus", test: "grant" });
  return card(
    "Permissions",
    { count, actions: [search.input, add], test: "user-permissions" },
    none,
    element,
    search.none,
    search.more,
  );
}

/** @param {Subject} subject @returns {Row[]} */
function rowsOf({ document, grants }) {
  const held = new Set(Object.keys(document?.permissions ?? {}));
  const own = new Map(grants.permissions.map((grant) => [grant.permission, grant]));
  for (const grant of grants.permissions) {
    if (grant.effect === "deny") {
      own.set(grant.permission, grant);
    }
  }
  const names = [...new Set([...held, ...own.keys()])].sort();
  return names.map((name) => ({ name, held: held.has(name), grant: own.get(name) ?? null }));
}

/** @param {Subject} subject @param {Row} row @returns {import("../../dom.js").Part<Row>} */
function rowView(subject, { name }) {
  const state = h("span", { class: "pill" });
  const more = h("span", { class: "right-more" });
  const why = button("Why?", () => permissionDialog(subject, name), {
    kind: "quiet",
    small: true,
    label: `Why: ${name}`,
  });
  const text = h("span", { class: "right-text" }, h("code", null, name), more);
  const element = h("li", { class: "right", test: `permission-${name}` }, text, state, why);
  const update = (/** @type {Row} */ { held, grant }) => {
    setMark(element, "data-held", held ? "held" : grant?.effect === "deny" ? "denied" : "not-held");
    setText(state, held ? "Held" : grant?.effect === "deny" ? "Denied" : "Not held");
    setMark(state, "data-tone", held ? "good" : grant?.effect === "deny" ? "bad" : "neutral");
    setText(more, grant === null ? "" : grantWords(grant));
    setShown(more, grant !== null);
  };
  return { element, update };
}

/** @param {Grant} grant */
function grantWords({ effect, starts_at: start, expires_at: end }) {
  const from = start === null ? "" : ` from ${moment(start)}`;
  const until = end === null ? "" : ` until ${moment(end)}`;
  return `${effect === "allow" ? "Granted" : "Denied"} to this user${from}${until}`;
}
