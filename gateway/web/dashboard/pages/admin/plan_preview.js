/** What saving a plan would do to whom, shown before it is saved. */

import { h } from "../../dom.js";
import { counted, figure } from "../../format.js";
import { openDialog } from "../../components/dialog.js";
import { button } from "../../components/button.js";
import { note } from "../../components/layout.js";
import { table } from "../../components/table.js";
import { tellingButton } from "../../components/telling_button.js";
import { limitWords } from "./explanation.js";

/**
 * What `POST /plans/{id}/preview` answers.
 *
 * @typedef {object} Preview
 * @property {number} users on the plan
 * @property {number} organizations on the plan
 * @property {number} connected
 * @property {{gained: Record<string, Touched>, lost: Record<string, Touched>}} permissions
 * @property {Record<string, QuotaChange>} quotas
 */

/** @typedef {{users: number, connected: number}} Touched */
/** @typedef {{before: any, after: any, users: number, connected: number, over: number}} QuotaChange */

/**
 * Shows what would happen, and saves if that is what is wanted.
 *
 * @param {import("../../app.js").Context} context
 * @param {any} plan as it stands
 * @param {Record<string, any>} patch
 * @param {Preview} preview
 * @param {() => Promise<void>} save
 */
export async function reviewDialog({ signal }, plan, patch, preview, save) {
  const act = async () => {
    await save();
    opened.close();
  };
  const yes = tellingButton("Save", act, { kind: "primary", test: "confirm" });
  const no = button("Go on editing", () => opened.close(), { test: "cancel" });
  const opened = openDialog(
    "What saving does",
    { signal, class: "dialog-wide", foot: [no, yes] },
    h("div", { class: "preview", test: "preview" }, previewView(plan, patch, preview)),
  );
  no.focus();
  await opened.closed;
}

/** @param {any} plan @param {Record<string, any>} patch @param {Preview} preview */
function previewView(plan, patch, preview) {
  const { gained, lost } = preview.permissions;
  const quotas = Object.entries(preview.quotas);
  const permissions = [...rowsOf(gained, true), ...rowsOf(lost, false)];
  const over = quotas.reduce((sum, [, quota]) => sum + quota.over, 0);
  return [
    h(
      "p",
      null,
      h("strong", null, counted(preview.users, "user")),
      ` on ${plan.id}, `,
      h("strong", null, figure(preview.connected)),
      " of them connected to this node now: those are told at once.",
    ),
    preview.organizations > 0 &&
      h("p", null, `Its quotas are the pools of ${counted(preview.organizations, "organization")} besides.`),
    over > 0 &&
      note(
        "warning",
        "Some have used more than the new limit. They keep what they used, and get nothing more of a hard limit.",
      ),
    patch.name !== undefined && h("p", null, `It is called “${patch.name}” from then on.`),
    permissions.length > 0 && permissionTable(permissions),
    quotas.length > 0 && quotaTable(quotas),
    permissions.length + quotas.length === 0 && h("p", { class: "hint" }, "Nobody gains or loses anything."),
  ];
}

/** @typedef {{name: string, gained: boolean} & Touched} PermissionRow */

/** @param {Record<string, Touched>} touched @param {boolean} gained @returns {PermissionRow[]} */
function rowsOf(touched, gained) {
  return Object.entries(touched).map(([name, counts]) => ({ name, gained, ...counts }));
}

/** @param {PermissionRow[]} rows */
function permissionTable(rows) {
  return table(
    "Permissions gained and lost",
    [
      {
        title: "Permission",
        kind: "main",
        cell: (row) => h(row.gained ? "ins" : "del", { class: row.gained ? "diff-after" : "diff-before" }, row.name),
      },
      { title: "What happens", cell: (row) => (row.gained ? "gained by" : "lost by") },
      { title: "Users", kind: "number", cell: (row) => figure(row.users) },
      { title: "Connected", kind: "number", cell: (row) => figure(row.connected) },
    ],
    rows,
    { test: (row) => `preview-${row.gained ? "gained" : "lost"}-${row.name}` },
  );
}

/** @param {[string, QuotaChange][]} rows */
function quotaTable(rows) {
  return table(
    "Quotas that change",
    [
      { title: "Quota", kind: "main", cell: ([name]) => h("code", null, name) },
      { title: "Now", cell: ([, { before }]) => (before === null ? "none" : limitWords(before)) },
      { title: "Then", cell: ([, { after }]) => (after === null ? "none" : limitWords(after)) },
      { title: "Users", kind: "number", cell: ([, { users }]) => figure(users) },
      { title: "Connected", kind: "number", cell: ([, { connected }]) => figure(connected) },
      {
        title: "Over it",
        kind: "number",
        cell: ([, { over }]) => (over > 0 ? h("strong", { class: "bad" }, figure(over)) : "0"),
      },
    ],
    rows,
    { test: ([name]) => `preview-quota-${name}` },
  );
}
