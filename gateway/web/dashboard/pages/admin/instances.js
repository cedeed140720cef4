/** The server instances: deployments of applications that trust this gateway. */

import { h } from "../../dom.js";
import { figure } from "../../format.js";
import { go, link } from "../../router.js";
import { button } from "../../components/button.js";
import { card, emptyState, note, page, pill } from "../../components/layout.js";
import { loading } from "../../components/loading.js";
import { table } from "../../components/table.js";
import { onceLogged } from "./followed.js";
import { openNewInstance } from "./new_instance.js";
import { names } from "./plans.js";
import { Presence } from "./presence.js";
import { statusPill } from "./users.js";

const MOST = 1000;
const LEAD = "Servers of applications that trust this gateway: each signs what it asks with a key of its own.";
const NONE = "An application’s server that is to know users without asking them for a password needs one.";
const MORE = `Only the first ${figure(MOST)} are shown; each one has its page at its ID.`;

/** @param {import("../../app.js").Context} context */
export function mount(context) {
  const { api, signal } = context;
  const presence = new Presence(api, signal);
  const show = (/** @type {Instance[]} */ instances) => {
    setTimeout(() => signal.aborted || void presence.ask());
    return instances.length === 0
      ? emptyState("instances", "No instances", NONE)
      : [instances.length >= MOST && note("info", MORE), instanceTable(instances, presence)];
  };
  const list = loading(() => api.all("/instances", { signal }, MOST), show, signal, 5);
  void onceLogged(context, (doc) => doc.startsWith("instance:"), list.reload);
  const create = button("New instance", () => make(context), { icon: "plus", test: "new-instance" });
  const all = card("All instances", { flush: true }, list.element);
  return page("Server instances", { lead: LEAD, actions: create }, all);
}

/** @param {import("../../app.js").Context} context */
function make(context) {
  openNewInstance(context, (id) => context.signal.aborted || go(link("admin", "instances", id)));
}

/**
 * @typedef {object} Instance
 * @property {string} id
 * @property {string} name
 * @property {string} status
 * @property {string[] | null} networks `null`: the list can not be read
 * @property {number} requests_per_minute
 */

/** @param {Instance[]} instances @param {Presence} presence */
function instanceTable(instances, presence) {
  return table(
    "Server instances",
    [
      { title: "Instance", kind: "main", cell: instanceName },
      { title: "Status", cell: (one) => statusPill(one) },
      { title: "May ask from", cell: (one) => networksWords(one.networks) },
      { title: "Requests a minute", kind: "number", cell: (one) => figure(one.requests_per_minute) },
      { title: "Connected here", cell: (one) => presence.mark(`instance:${one.id}`) },
    ],
    instances,
    { test: (one) => `instance-${one.id}` },
  );
}

/** @param {Instance} instance */
function instanceName({ id, name }) {
  const href = link("admin", "instances", id);
  return [
    h("a", { class: "person-name", href }, name || id),
    h("div", { class: "cell-more" }, h("code", null, id)),
  ];
}

/** Where an instance may ask from. @param {string[] | null} networks */
function networksWords(networks) {
  if (networks === null) {
    return pill("Nowhere: the list can not be read", "bad");
  }
  return networks.length === 0 ? "Anywhere" : names(networks);
}
