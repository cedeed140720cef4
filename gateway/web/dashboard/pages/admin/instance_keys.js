/** The keys of a server instance: made, replaced and removed. */

import { h } from "../../dom.js";
import { now } from "../../clock.js";
import { fromNow, wholeMoment } from "../../format.js";
import { button } from "../../components/button.js";
import { confirm, openDialog } from "../../components/dialog.js";
import { choiceField, form } from "../../components/field.js";
import { card, emptyState, pill } from "../../components/layout.js";
import { loading } from "../../components/loading.js";
import { table } from "../../components/table.js";
import { toast } from "../../components/toast.js";
import { issuerOf, showConfiguration } from "./instance_secret.js";

/** @typedef {import("../../app.js").Context} Context */
/** @typedef {{kid: string, created_at: string, expires_at: string | null}} Key */

const DAY_S = 86_400;
/** @type {[string, string][]} */
const OVERLAPS = [
  ["0", "At once"],
  ["3600", "In an hour"],
  [String(DAY_S), "In a day"],
  [String(7 * DAY_S), "In a week"],
  ["", "As they would: nothing changes"],
];
/** @type {[string, string][]} */
const ENDS = [
  ["30", "In 30 days"],
  ["90", "In 90 days"],
  ["365", "In a year"],
  ["", "Never"],
];
const LEAD =
  "It signs with any of them. To replace one: make another, give it to the application, let the older one end.";

/** @param {Context} context @param {string} id of the instance */
export function keysCard(context, id) {
  const { api, signal } = context;
  const load = async () => {
    const { items: keys } = await api.get(["/instances", id, "keys"], { signal });
    // So what is shown changes when one has ended.
    return { keys, ended: keys.filter((/** @type {Key} */ key) => !inForce(key)).length };
  };
  const show = (/** @type {{keys: Key[]}} */ { keys }) =>
    keys.length === 0
      ? emptyState("key", "No keys", "Without one it is let in nowhere.")
      : keyTable(context, id, keys, list.reload);
  /** @type {import("../../components/loading.js").Loading} */
  const list = loading(load, show, signal);
  const make = () => openNewKey(context, id, list.reload);
  const actions = button("New key…", make, { icon: "plus", test: "new-key" });
  return {
    element: card("Keys", { lead: LEAD, actions, flush: true, test: "instance-keys" }, list.element),
    reload: list.reload,
  };
}

/** @param {Context} context @param {string} id @param {Key[]} keys @param {() => Promise<void>} reload */
function keyTable(context, id, keys, reload) {
  const remaining = keys.filter(inForce).length;
  return table(
    "Keys",
    [
      { title: "Key", kind: "main", cell: (key) => h("code", null, key.kid) },
      { title: "Made", cell: (key) => when(key.created_at) },
      { title: "Ends", cell: (key) => (key.expires_at === null ? "Never" : when(key.expires_at)) },
      { title: "State", cell: (key) => (inForce(key) ? pill("In force", "good") : pill("Ended", "neutral")) },
      {
        title: "Delete",
        kind: "actions",
        quiet: true,
        cell: (key) => removing(context, id, key, inForce(key) && remaining === 1, reload),
      },
    ],
    keys,
    { test: (key) => `key-${key.kid}` },
  );
}

/**
 * @param {Context} context
 * @param {string} id
 * @param {Key} key
 * @param {boolean} last whether no other one is in force
 * @param {() => Promise<void>} reload
 */
function removing({ api }, id, { kid }, last, reload) {
  const remove = async () => {
    const rest = last
      ? "No other key is in force: the instance is cut off until it has been given another one."
      : "What it opened ends, and what is signed with it is refused. It can not be taken back.";
    const text = [h("code", null, kid), " is gone at once. ", rest];
    if (await confirm("Delete this key?", text, "Delete key", () => api.delete(["/instances", id, "keys", kid]))) {
      toast("The key was deleted.");
      await reload();
    }
  };
  const about = { kind: /** @type {const} */ ("quiet-danger"), small: true, label: `Delete the key ${kid}` };
  return button("Delete", () => void remove(), about);
}

/** @param {Context} context @param {string} id @param {() => Promise<void>} made */
function openNewKey({ api, signal }, id, made) {
  const url = issuerOf(api);
  const overlap = choiceField("The older keys end", OVERLAPS, { value: String(DAY_S), test: "new-key-overlap" });
  const ends = choiceField("The new one ends", ENDS, { value: "", test: "new-key-ends" });
  const submit = async () => {
    const days = Number(ends.input.value);
    const body = {
      overlap_s: overlap.input.value === "" ? null : Number(overlap.input.value),
      expires_at: days === 0 ? null : new Date(now() + days * DAY_S * 1000).toISOString(),
    };
    const answer = await api.post(["/instances", id, "keys"], body);
    opened.close();
    void made();
    await showConfiguration({ url: await url, instance: id, kid: answer.kid, secret: answer.key });
  };
  const about = { verb: "Make key", verbTest: "make-key", label: "New key" };
  const row = h("div", { class: "form-row" }, overlap.element, ends.element);
  const opened = openDialog("New key", { signal }, form(about, submit, row));
  overlap.input.focus();
}

/** @param {Key} key */
function inForce({ expires_at: end }) {
  return end === null || Date.parse(end) > now();
}

/** @param {string} at */
function when(at) {
  return h("time", { datetime: at, title: wholeMoment(at) }, fromNow(at));
}
