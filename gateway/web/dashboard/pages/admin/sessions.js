/** Who is connected: the nodes that live, and the connections of the one that answers. */

import { h, setText } from "../../dom.js";
import { counted, device, figure, fromNow, wholeMoment } from "../../format.js";
import { eachWhileSeen } from "../../frame.js";
import { own } from "../../own.js";
import { link } from "../../router.js";
import { button } from "../../components/button.js";
import { confirm } from "../../components/dialog.js";
import { card, emptyState, page, pill } from "../../components/layout.js";
import { loading } from "../../components/loading.js";
import { PagedTable } from "../../components/paged.js";
import { table } from "../../components/table.js";
import { toast } from "../../components/toast.js";
import { documentLink } from "./changes.js";
import { onceTyped, searchField } from "./search_field.js";

/** @typedef {import("../../app.js").Context} Context */

const ASKED_MS = 5000;
const CREDENTIALS = /** @type {Record<string, string>} */ ({
  login_session: "Login session",
  api_token: "API token",
  instance_key: "Key of the instance",
});

/** @param {Context} context */
export function mount(context) {
  const { api, signal } = context;
  const nodes = loading(() => api.get("/admin/nodes", { signal }), nodesView, signal);
  eachWhileSeen(() => void nodes.reload(), ASKED_MS, signal);
  return page(
    "Connections",
    { lead: "The channels that are open now, by node." },
    card("Nodes", { flush: true, lead: "Those that have given a sign of life lately." }, nodes.element),
    connectionsCard(context),
  );
}

/** @param {{nodes: any[], newest: number}} answer */
function nodesView({ nodes, newest }) {
  return table(
    "Nodes",
    [
      {
        title: "Node",
        kind: "main",
        cell: (node) =>
          h("span", { class: "chips" }, h("code", null, node.name), node.this && pill("Answers you", "accent")),
      },
      { title: "Version", cell: (node) => node.version },
      { title: "Up since", cell: (node) => at(node.started_at) },
      { title: "Sign of life", cell: (node) => at(node.seen_at) },
      { title: "Connections", kind: "number", cell: (node) => figure(node.sessions) },
      { title: "Has followed to", kind: "number", cell: (node) => figure(node.position) },
      { title: "Behind", kind: "number", cell: (node) => behind(newest - node.position) },
    ],
    nodes,
    { test: (node) => `node-${node.name}` },
  );
}

/** @param {number} lag */
function behind(lag) {
  return lag <= 0 ? "0" : counted(lag, "change");
}

/** @param {string} moment */
function at(moment) {
  return h("time", { datetime: moment, title: wholeMoment(moment) }, fromNow(moment));
}

/** @param {Context} context */
function connectionsCard(context) {
  const { api, query, signal } = context;
  const about = { label: "Connections of a user, by ID", placeholder: "User ID", test: "session-user" };
  const user = searchField({ ...about, value: query.get("user") });
  const name = h("code");
  const load = async (/** @type {string | null} */ cursor) => {
    const asked = { user: user.input.value.trim(), cursor, limit: 50 };
    const answer = await api.get("/admin/sessions", { query: asked, signal });
    setText(name, answer.node);
    return answer;
  };
  const sessions = new PagedTable({
    caption: "Connections",
    columns: columns((session) => void end(context, session, () => sessions.reload())),
    load,
    test: (session) => `session-${session.id}`,
    empty: () => emptyState("sessions", "No connections", "Nobody fits who is connected to this node now."),
    noun: "connection",
    signal,
  });
  onceTyped(user.input, () => void sessions.reload(), signal);
  void sessions.reload();
  const again = button("Refresh", () => void sessions.reload(), { icon: "refresh", test: "refresh" });
  const lead = h("span", null, "Of the node ", name, ", the newest first.");
  return card("Connections of this node", { flush: true, lead, actions: [user.element, again] }, sessions.element);
}

/**
 * @param {(session: any) => void} act ends one
 * @returns {import("../../components/table.js").Column<any>[]}
 */
function columns(act) {
  const ending = (/** @type {any} */ session) => {
    const label = `End the session ${session.id}`;
    return button("End", () => act(session), { kind: "quiet-danger", small: true, label });
  };
  return [
    { title: "Who", kind: "main", cell: whoCell },
    { title: "Client", cell: clientCell },
    { title: "Since", cell: (session) => at(session.opened_at) },
    { title: "Watches", kind: "number", cell: (session) => figure(session.watches) },
    { title: "Signed in by", cell: credentialCell },
    { title: "End", kind: "actions", quiet: true, cell: (session) => userOf(session) !== null && ending(session) },
  ];
}

/**
 * What is shown of the connections of one who is known.
 *
 * @type {import("../../components/table.js").Column<any>[]}
 */
export const SEEN_COLUMNS = [
  { title: "Connection", kind: "main", cell: (session) => h("code", null, session.id) },
  { title: "Client", cell: clientCell },
  { title: "Since", cell: (session) => at(session.opened_at) },
  { title: "Watches", kind: "number", cell: (session) => figure(session.watches) },
  { title: "Signed in by", cell: credentialCell },
];

/** @param {any} session */
function userOf({ principal }) {
  return principal.startsWith("user:") ? principal.slice("user:".length) : null;
}

/** @param {any} session */
function whoCell(session) {
  const user = userOf(session);
  const shown =
    user === null
      ? documentLink(session.principal)
      : h("a", { class: "person-name", href: link("admin", "users", user) }, user);
  return [shown, h("div", { class: "cell-more" }, session.id)];
}

/** @param {any} session */
function clientCell({ client, address }) {
  const said =
    client === null ? "Unknown client" : [client.name, client.version].filter(Boolean).join(" ") || "Unknown client";
  return [device(said), h("div", { class: "cell-more" }, address)];
}

/** @param {any} session */
function credentialCell({ credential }) {
  return [own(CREDENTIALS, credential.kind) ?? credential.kind, h("div", { class: "cell-more" }, credential.id)];
}

/** @param {Context} context @param {any} session @param {() => Promise<void>} then */
async function end({ api }, session, then) {
  const { kind, id } = session.credential;
  const login = kind === "login_session";
  const path = ["/users", userOf(session) ?? "", login ? "sessions" : "tokens", id];
  const title = login ? "End this login session?" : "Revoke this API token?";
  const text = login
    ? "All connections of this login session end, and whoever uses it has to sign in again."
    : "All connections with this token end, and it is refused from then on. It can not be taken back.";
  if (await confirm(title, text, login ? "End" : "Revoke", () => api.delete(path))) {
    toast(login ? "The login session is over." : "The token was revoked.");
    await then();
  }
}
