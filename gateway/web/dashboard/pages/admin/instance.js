/** One server instance: what it may, its keys, and its connections. */

import { h, replace, setMark, setShown, setText } from "../../dom.js";
import { ApiError } from "../../api.js";
import { day, figure } from "../../format.js";
import { eachWhileSeen } from "../../frame.js";
import { go, link } from "../../router.js";
import { acting, button } from "../../components/button.js";
import { confirm } from "../../components/dialog.js";
import { card, emptyState, note, page, pill, terms } from "../../components/layout.js";
import { loading } from "../../components/loading.js";
import { table } from "../../components/table.js";
import { toast } from "../../components/toast.js";
import { onceLogged } from "./followed.js";
import { InstanceEditor } from "./instance_editor.js";
import { keysCard } from "./instance_keys.js";
import { SEEN_COLUMNS } from "./sessions.js";

/** @typedef {import("../../app.js").Context} Context */

/** Keys end, and connections come and go, without a word in the change log. */
const AGAIN_MS = 5000;
const SHOWN = 50;
const GONE = "This instance was deleted. What you see is what was there before.";
const DISABLE = "It is cut off at once: its connections end, and what it signs is refused until it is enabled again.";
const DELETE = "It goes with its keys, and is cut off at once. This can not be taken back.";
const QUIET = /** @type {const} */ ("quiet-danger");

/** @param {Context} context */
export function mount(context) {
  const { api, params, signal } = context;
  const title = h("span", null, params.id);
  const asked = loading(
    () => api.request("GET", ["/instances", params.id], { signal }),
    ({ body, etag }) => instanceView(context, body, etag, title),
    signal,
    6,
  );
  const above = h("a", { href: link("admin", "instances") }, "← Server instances");
  return page(title, { above, lead: h("code", null, params.id) }, asked.element);
}

/**
 * @param {Context} context
 * @param {any} instance
 * @param {string | null} etag
 * @param {HTMLElement} title
 */
function instanceView(context, instance, etag, title) {
  const { id } = instance;
  const notice = h("div", { class: "notice", role: "status", hidden: true });
  const about = aboutCard(context, ["/instances", id], (status) => editor.setStatus(status));
  const told = (/** @type {any} */ now) => {
    setText(title, now.name || now.id);
    about.update(now);
  };
  const editor = new InstanceEditor(context, instance, etag, told);
  told(instance);
  const keys = keysCard(context, id);
  const connections = connectionsCard(context, id);
  const again = () => notice.hidden && void Promise.all([keys.reload(), connections.reload()]);
  const look = async () => {
    try {
      await editor.compare();
      again();
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) {
        replace(notice, note("warning", GONE));
        setShown(notice, true);
      }
    }
  };
  void onceLogged(context, (doc) => doc === `instance:${id}`, look);
  eachWhileSeen(again, AGAIN_MS, context.signal);
  const lead = "Saved only if nobody else has changed it meanwhile.";
  return h(
    "div",
    { class: "page" },
    notice,
    about.element,
    keys.element,
    card("Settings", { lead, test: "instance-settings" }, editor.element),
    connections.element,
  );
}

/**
 * @param {Context} context
 * @param {string[]} path of the instance
 * @param {(status: "active" | "disabled") => Promise<void>} setStatus
 */
function aboutCard({ api }, path, setStatus) {
  const status = pill("", "good", { test: "instance-status" });
  const details = h("div");
  let active = true;
  const disable = () => confirm("Disable this instance?", DISABLE, "Disable", () => setStatus("disabled"));
  const verb = h("span");
  const turn = button(verb, () => void (active ? disable() : acting(turn, () => setStatus("active"))), {
    test: "instance-turn",
  });
  const remove = async () => {
    if (await confirm("Delete this instance?", DELETE, "Delete", () => api.delete(path))) {
      toast("The instance was deleted.");
      go(link("admin", "instances"));
    }
  };
  const away = button("Delete…", () => void remove(), { kind: QUIET, test: "delete-instance" });
  const update = (/** @type {any} */ now) => {
    active = now.status === "active";
    setText(status, active ? "Active" : "Disabled");
    setMark(status, "data-tone", active ? "good" : "bad");
    setText(verb, active ? "Disable…" : "Enable");
    replace(
      details,
      terms([
        ["Requests a minute", figure(now.requests_per_minute)],
        ["Since", day(now.created_at)],
        ["Changed", day(now.updated_at)],
      ]),
    );
  };
  return { element: card("Instance", { actions: [status, turn, away] }, details), update };
}

/** @param {Context} context @param {string} id */
function connectionsCard({ api, signal }, id) {
  const node = h("code");
  const load = async () => {
    const answer = await api.get("/admin/sessions", { query: { instance: id, limit: SHOWN }, signal });
    setText(node, answer.node);
    return answer;
  };
  const show = (/** @type {{items: any[], next: string | null}} */ { items, next }) =>
    items.length === 0
      ? emptyState("sessions", "No connections", "It is not connected to this node now.")
      : [
          table("Connections", SEEN_COLUMNS, items, { test: (session) => `session-${session.id}` }),
          next !== null && h("p", { class: "paged-count" }, `The newest ${SHOWN} are shown.`),
        ];
  const list = loading(load, show, signal);
  const lead = h("span", null, "Of the node ", node, ", the newest first.");
  const element = card("Connections of this node", { flush: true, lead, test: "instance-connections" }, list.element);
  return { element, reload: list.reload };
}
