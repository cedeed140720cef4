/** One organization: its pools as they move, and its members. */

import { h, replace, setMark, setShown, setText } from "../../dom.js";
import { day } from "../../format.js";
import { eachWhileSeen } from "../../frame.js";
import { link } from "../../router.js";
import { card, emptyState, note, page, pill, terms } from "../../components/layout.js";
import { loading } from "../../components/loading.js";
import { inShort } from "../../components/difference.js";
import { PagedTable } from "../../components/paged.js";
import { quotasView } from "../../components/quotas.js";
import { UsageHistory } from "../../usage.js";
import { onceChanged, watchDocument } from "./watched.js";
import { mayReadUsers } from "./rights.js";

/** @typedef {import("../../app.js").Context} Context */

/** @param {Context} context */
export function mount(context) {
  const { api, params, signal } = context;
  const title = h("span", null, params.id);
  const asked = loading(
    () => api.get(["/orgs", params.id], { signal }),
    (organization) => {
      setText(title, organization.name || organization.id);
      return organizationView(context, organization);
    },
    signal,
    6,
  );
  const above = h("a", { href: link("admin", "organizations") }, "← All organizations");
  return page(title, { above }, asked.element);
}

/** @param {Context} context @param {any} organization */
function organizationView(context, organization) {
  const doc = `org:${organization.id}`;
  const notice = h("div", { role: "status", hidden: true });
  watchDocument(context, doc, (error) => {
    replace(notice, note("warning", `The live document can not be shown: ${error.message}`));
    setShown(notice, true);
  });
  return h(
    "div",
    { class: "page" },
    notice,
    aboutCard(context, organization, doc),
    pools(context, doc),
    membersCard(context, organization, doc),
  );
}

/** @param {Context} context @param {any} organization @param {string} doc */
function aboutCard({ live, signal }, organization, doc) {
  const status = pill("");
  const plan = pill("", "accent");
  const details = h("div");
  const draw = (/** @type {any} */ now) => {
    setText(status, now.status === "active" ? "Active" : "Disabled");
    setMark(status, "data-tone", now.status === "active" ? "good" : "bad");
    setText(plan, `Plan: ${now.plan}`);
    const attributes = Object.entries(now.attributes).map(
      ([name, value]) => /** @type {[string, string]} */ ([name, inShort(value)]),
    );
    replace(
      details,
      terms([
        ["ID", h("code", null, now.id)],
        ["Since", day(now.created_at)],
        ["Time zone", organization.timezone],
        ...attributes,
      ]),
    );
  };
  let shown = "";
  draw(organization);
  live.document(
    (data) => {
      const now = JSON.stringify(data.organization);
      if (now !== shown) {
        shown = now;
        draw(data.organization);
      }
    },
    signal,
    doc,
  );
  return card("Organization", { actions: [plan, status] }, details);
}

/** @param {Context} context @param {string} doc */
function pools({ channel, live, signal }, doc) {
  const usage = new UsageHistory();
  const view = quotasView({ test: (name) => `pool-${name}`, usage, none: "The organization’s plan has no quotas." });
  const draw = () => {
    const quotas = channel.documents[doc]?.quotas ?? {};
    usage.note(quotas, Date.now());
    view.update(quotas);
  };
  live.document(draw, signal, doc);
  eachWhileSeen(view.redraw, 5000, signal);
  draw();
  return h(
    "section",
    { class: "section", "aria-labelledby": "pools" },
    h("h2", { id: "pools" }, "Pools"),
    view.element,
  );
}

/** @param {Context} context @param {any} organization @param {string} doc */
function membersCard(context, organization, doc) {
  const { api, session, signal } = context;
  const linked = mayReadUsers(session);
  const members = new PagedTable({
    caption: "Members",
    columns: [
      {
        title: "Member",
        kind: "main",
        cell: (one) =>
          linked
            ? h("a", { class: "person-name", href: link("admin", "users", one.user) }, one.username)
            : one.username,
      },
      { title: "Role", cell: (one) => one.role },
      { title: "Since", cell: (one) => day(one.since) },
    ],
    load: (cursor) =>
      api.get(["/orgs", organization.id, "members"], { query: { cursor, limit: 50 }, signal }),
    test: (one) => `member-${one.user}`,
    empty: () => emptyState("users", "No members"),
    noun: "member",
    signal,
  });
  void members.reload();
  let shown = "";
  onceChanged(context, doc, signal, () => {
    const now = JSON.stringify(context.channel.documents[doc]?.members ?? null);
    if (now !== shown) {
      shown = now;
      void members.reload();
    }
  });
  return card("Members", { flush: true }, members.element);
}
