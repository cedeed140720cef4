/** The login sessions and API tokens of a user. */

import { h } from "../../dom.js";
import { now } from "../../clock.js";
import { device, fromNow, moment, wholeMoment } from "../../format.js";
import { button } from "../../components/button.js";
import { confirm } from "../../components/dialog.js";
import { card, emptyState, pill } from "../../components/layout.js";
import { PagedTable } from "../../components/paged.js";
import { tabs } from "../../components/tabs.js";
import { toast } from "../../components/toast.js";
import { documentLink } from "./changes.js";

/** @typedef {import("./subject.js").Subject} Subject */
/** @typedef {import("../../components/table.js").Column<any>} Column */

/** @type {Column[]} */
const SESSION_COLUMNS = [
  { title: "Where", kind: "main", cell: where },
  { title: "Last seen", cell: (one) => one.last_seen_at && ago(one.last_seen_at) },
  { title: "Began", cell: (one) => ago(one.created_at) },
];

/** @type {Column[]} */
const TOKEN_COLUMNS = [
  { title: "Token", kind: "main", cell: (one) => [one.name || "Without a name", more(one.id)] },
  { title: "May", cell: scopes },
  { title: "Last used", cell: (one) => (one.last_used_at === null ? "never" : ago(one.last_used_at)) },
];

/** @param {Subject} subject */
export function credentialsCard(subject) {
  const sessions = credentialTable(subject, {
    part: "sessions",
    noun: "login session",
    columns: SESSION_COLUMNS,
    verb: "End",
    question: "All its connections end at once, and whoever uses it has to sign in again.",
  });
  const tokens = credentialTable(subject, {
    part: "tokens",
    noun: "API token",
    columns: TOKEN_COLUMNS,
    verb: "Revoke",
    question: "Whatever uses it is refused from then on. It can not be taken back.",
  });
  const title = "Sessions and tokens";
  const shown = tabs(title, [
    { title: "Login sessions", element: sessions.element },
    { title: "API tokens", element: tokens.element },
  ]);
  return card(title, { flush: true, class: "card-tabs", test: "credentials" }, shown);
}

/** @param {any} one */
function where({ user_agent: agent, ip, instance_id: instance }) {
  return [device(agent), ip && more(ip), instance && more("Through ", documentLink(`instance:${instance}`))];
}

/** @param {any} one */
function scopes({ scopes: narrowed }) {
  return narrowed === null ? "all its owner may" : narrowed.permissions.join(", ") || "nothing";
}

/** @param {...import("../../dom.js").Child} children */
function more(...children) {
  return h("div", { class: "cell-more" }, ...children);
}

/**
 * @param {Subject} subject
 * @param {{part: "sessions" | "tokens", noun: string, columns: Column[], verb: string, question: string}} about
 */
function credentialTable(subject, about) {
  const { context } = subject;
  const load = (/** @type {string | null} */ cursor) =>
    context.api.get(subject.path(about.part), { query: { cursor, limit: 50 }, signal: context.signal });
  const shown = new PagedTable({
    caption: about.noun,
    columns: [
      ...about.columns,
      { title: "State", cell: state },
      { title: about.verb, kind: "actions", quiet: true, cell: ending },
    ],
    load,
    test: (one) => `${about.part === "sessions" ? "session" : "token"}-${one.id}`,
    empty: () => emptyState("key", `No ${about.noun}s`),
    noun: about.noun,
    signal: context.signal,
  });
  /** @param {any} one */
  function ending(one) {
    const label = `${about.verb} ${about.noun} ${one.id}`;
    return (
      inForce(one) &&
      subject.mayWrite &&
      button(about.verb, () => void ask(one), { kind: "quiet-danger", small: true, label })
    );
  }
  /** @param {any} one */
  async function ask(one) {
    const act = () =>
      subject.edit(`${about.verb} ${about.noun}`, () => context.api.delete(subject.path(about.part, one.id)));
    if (await confirm(`${about.verb} this ${about.noun}?`, about.question, about.verb, act)) {
      toast(`The ${about.noun} is over.`);
      shown.exchange(one, { ...one, revoked_at: new Date(now()).toISOString() });
    }
  }
  void shown.reload();
  return shown;
}

/** @param {any} one */
function inForce({ revoked_at: revoked, expires_at: end }) {
  return revoked === null && (end === null || Date.parse(end) > now());
}

/** @param {any} one */
function state(one) {
  if (one.revoked_at !== null) {
    return pill("Revoked", "bad", { title: moment(one.revoked_at) });
  }
  return inForce(one) ? pill("In force", "good") : pill("Expired", "neutral");
}

/** @param {string} at */
function ago(at) {
  return h("time", { datetime: at, title: wholeMoment(at) }, fromNow(at));
}
