/** One user: what holds now, why, and how it is changed. */

import { h, replace, setMark, setShown, setText } from "../../dom.js";
import { day, initials } from "../../format.js";
import { link } from "../../router.js";
import { card, note, page, pill, terms } from "../../components/layout.js";
import { loading } from "../../components/loading.js";
import { inShort } from "../../components/difference.js";
import { Presence } from "./presence.js";
import { isAdmin, mayWatchUsers } from "./rights.js";
import { Subject } from "./subject.js";
import { accountCard } from "./user_account.js";
import { credentialsCard } from "./user_credentials.js";
import { dangerCard } from "./user_danger.js";
import { permissionsSection } from "./user_permissions.js";
import { quotasSection } from "./user_quotas.js";
import { rolesCard } from "./user_roles.js";
import { onceChanged, watchDocument } from "./watched.js";

/** @typedef {import("../../app.js").Context} Context */

const NOT_LIVE = "This page does not move by itself: watching others takes the permission users.read.";
const GONE = "This user was deleted. What you see is what was there before.";

/** @param {Context} context */
export function mount(context) {
  const { api, params, signal } = context;
  const title = h("span", null, params.id);
  const asked = loading(
    () => api.request("GET", ["/users", params.id], { signal }),
    ({ body, etag }) => {
      setText(title, body.name || body.username);
      return userView(context, body, etag, title);
    },
    signal,
    8,
  );
  return page(title, { above: h("a", { href: link("admin", "users") }, "← Users") }, asked.element);
}

/**
 * @param {Context} context
 * @param {any} user
 * @param {string | null} etag
 * @param {HTMLElement} title
 */
function userView(context, user, etag, title) {
  const subject = new Subject(context, user);
  const notice = h("div", { class: "notice", role: "status", hidden: true });
  const tell = (/** @type {string} */ text) => {
    replace(notice, note("warning", text));
    setShown(notice, true);
  };
  follow(subject, tell);
  const sections = [
    identityCard(subject, title),
    quotasSection(subject),
    permissionsSection(subject),
    context.session.may("users.write") && rolesCard(subject),
    accountCard(subject, etag),
    context.session.may("users.write") && credentialsCard(subject),
    isAdmin(context.session) && dangerCard(subject),
  ];
  void subject.readGrants().catch(() => tell("What was granted to this user alone could not be read."));
  return h(
    "div",
    { class: "with-aside" },
    h("div", { class: "page" }, notice, readOnly(subject), sections),
    h("aside", { class: "aside", "aria-label": "Live log" }, subject.log.element),
  );
}

/** @param {Subject} subject */
function readOnly({ mayWrite, user }) {
  const why = user.is_admin
    ? "an administrator’s account is changed by administrators."
    : "changing users takes the permission users.write.";
  return mayWrite ? null : note("info", `You may look, and not change anything: ${why}`);
}

/** Watches the document as long as the page is shown. @param {Subject} subject @param {(text: string) => void} tell */
function follow(subject, tell) {
  const { context, doc } = subject;
  const { channel, session, signal } = context;
  if (!mayWatchUsers(session) && doc !== channel.principal) {
    tell(NOT_LIVE);
    return;
  }
  watchDocument(context, doc, (error) => tell(`The live document can not be shown: ${error.message}`));
  const stop = channel.on("change", (change) => change.doc === doc && change.kind === "gone" && tell(GONE));
  signal.addEventListener("abort", stop, { once: true });
  onceChanged(context, doc, signal, () => void subject.readGrants().catch(() => {}), 5000);
}

/** @param {Subject} subject @param {HTMLElement} title */
function identityCard(subject, title) {
  const { context, id, doc } = subject;
  const avatar = h("span", { class: "avatar avatar-large", "aria-hidden": "true" });
  const name = h("p", { class: "identity-name" });
  const more = h("p", { class: "identity-more" });
  const plan = pill("", "accent", { test: "user-plan" });
  const status = pill("", "good", { test: "user-status" });
  const admin = pill("Administrator", "accent", { hidden: true });
  const details = h("div");
  let shown = "";
  const draw = (/** @type {any} */ identity) => {
    const called = identity.name || identity.username;
    setText(title, called);
    setText(avatar, initials(called));
    setText(name, called);
    setText(more, [`@${identity.username}`, identity.email].filter(Boolean).join(" · "));
    setText(plan, `Plan: ${identity.plan}`);
    setText(status, identity.status === "active" ? "Active" : "Disabled");
    setMark(status, "data-tone", identity.status === "active" ? "good" : "bad");
    setShown(admin, identity.is_admin === true);
    const known = JSON.stringify([identity.created_at, identity.updated_at, identity.attributes]);
    if (known !== shown) {
      shown = known;
      replace(details, terms(detailsOf(identity)));
    }
  };
  draw(subject.user);
  context.live.document((data) => draw(data.identity), context.signal, doc);
  const pills = h("div", { class: "identity-pills" }, plan, status, admin, connectedMark(context, id));
  const head = h("div", { class: "identity" }, avatar, h("div", { class: "identity-text" }, name, more), pills);
  return card("Identity", { test: "user-identity" }, head, details);
}

/** @param {Context} context @param {string} id */
function connectedMark(context, id) {
  const { api, session, signal } = context;
  if (!isAdmin(session)) {
    return null;
  }
  const presence = new Presence(api, signal);
  const mark = presence.mark(`user:${id}`);
  setTimeout(() => signal.aborted || void presence.ask());
  onceChanged(context, `user:${id}`, signal, () => void presence.ask(), 2000);
  return mark;
}

/** @param {any} identity @returns {[string, import("../../dom.js").Child][]} */
function detailsOf(identity) {
  const attributes = Object.entries(identity.attributes ?? {}).map(
    ([name, value]) => /** @type {[string, string]} */ ([name, inShort(value)]),
  );
  return [
    ["User ID", h("code", null, identity.id)],
    ["Since", day(identity.created_at)],
    ["Changed", day(identity.updated_at)],
    ...attributes,
  ];
}
