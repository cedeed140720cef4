/** What somebody is signed in with: login sessions and API tokens, each to be seen and ended. */

import { h } from "../dom.js";
import { now } from "../clock.js";
import { day, device, fromNow, wholeMoment } from "../format.js";
import { button } from "../components/button.js";
import { confirm } from "../components/dialog.js";
import { icon } from "../components/icon.js";
import { card, emptyState, page, pill } from "../components/layout.js";
import { loading } from "../components/loading.js";
import { openNewToken } from "../components/new_token.js";
import { table } from "../components/table.js";
import { toast } from "../components/toast.js";

/** @typedef {import("../app.js").Context} Context */

/**
 * @typedef {object} LoginSession
 * @property {string} id
 * @property {string} created_at
 * @property {string | null} last_seen_at
 * @property {string | null} ip
 * @property {string | null} user_agent
 * @property {string | null} instance_id the application’s server that it was begun through
 * @property {boolean} current
 */

/**
 * @typedef {object} ApiToken
 * @property {string} id
 * @property {string} name
 * @property {{permissions: string[]} | null} scopes
 * @property {string} created_at
 * @property {string | null} expires_at
 * @property {string | null} last_used_at
 */

/** @param {Context} context */
export function mount(context) {
  const sessions = sessionsCard(context);
  const tokens = tokensCard(context);
  const again = () => {
    if (document.visibilityState === "visible") {
      void sessions.reload();
      void tokens.reload();
    }
  };
  document.addEventListener("visibilitychange", again, { signal: context.signal });
  const lead = "Where you are signed in, and the tokens that your programs use. Ending one takes effect at once.";
  return page("Security", { lead }, sessions.element, tokens.element);
}

// --- login sessions ---

/** @param {Context} context */
function sessionsCard(context) {
  const { api, session, signal } = context;
  const load = async () => {
    /** @type {LoginSession[]} */
    const sessions = await api.all("/auth/sessions", { signal });
    return sessions.sort((one, other) => rank(other) - rank(one));
  };
  /** @type {import("../components/loading.js").Loading} */
  const list = loading(load, (sessions) => sessionTable(context, sessions, list.reload), signal);
  const everywhere = async () => {
    const text = "All of your sessions end, this one too. API tokens stay.";
    await confirm("Sign out everywhere?", text, "Sign out everywhere", () => session.signOut(true));
  };
  const actions = button("Sign out everywhere", () => void everywhere(), { test: "sign-out-everywhere" });
  const about = { lead: "Browsers and apps that are signed in as you.", actions, flush: true };
  return { element: card("Sessions", about, list.element), reload: list.reload };
}

/** The present session comes first, then the one that was seen last. @param {LoginSession} session */
function rank(session) {
  return session.current ? Infinity : new Date(session.last_seen_at ?? session.created_at).getTime();
}

/** @param {Context} context @param {LoginSession[]} sessions @param {() => Promise<void>} reload */
function sessionTable(context, sessions, reload) {
  return table(
    "Sessions",
    [
      { title: "Device", kind: "main", cell: deviceCell },
      { title: "Address", cell: (session) => session.ip ?? "Unknown" },
      { title: "Signed in", cell: (session) => when(session.created_at) },
      { title: "Last seen", cell: (session) => (session.current ? "Now" : when(session.last_seen_at)) },
      { title: "Actions", quiet: true, kind: "actions", cell: (session) => endSession(context, session, reload) },
    ],
    sessions,
    { test: (session) => `session-${session.id}` },
  );
}

/** @param {LoginSession} session */
function deviceCell(session) {
  const name = device(session.user_agent);
  const phone = /iPhone|iPad|Android/.test(name);
  return h(
    "span",
    { class: "cell-main" },
    icon(phone ? "phone" : "system"),
    h("span", { title: session.user_agent }, name),
    session.current && pill("This session", "accent"),
    session.instance_id && pill(["Through ", h("code", null, session.instance_id)]),
  );
}

/** @param {Context} context @param {LoginSession} session @param {() => Promise<void>} reload */
function endSession(context, session, reload) {
  const name = device(session.user_agent);
  const end = async () => {
    const text = session.current ? "This is the session that you use now." : `${name} is signed out at once.`;
    const act = () => context.api.delete(["/auth/sessions", session.id]);
    if (await confirm("End this session?", text, "End session", act)) {
      if (session.current) {
        context.session.signedOut();
      } else {
        toast("The session was ended.");
        await reload();
      }
    }
  };
  return button("End", () => void end(), { kind: "quiet-danger", small: true, label: `End the session on ${name}` });
}

// --- API tokens ---

/** @param {Context} context */
function tokensCard(context) {
  const { api, signal } = context;
  /** @returns {Promise<ApiToken[]>} */
  const load = () => api.all("/auth/tokens", { signal });
  const show = (/** @type {ApiToken[]} */ tokens) =>
    tokens.length === 0
      ? emptyState("key", "No API tokens", "A token lets a program act as you, for as long as you want.")
      : tokenTable(context, tokens, list.reload);
  /** @type {import("../components/loading.js").Loading} */
  const list = loading(load, show, signal);
  const make = () => void openNewToken(context, list.reload);
  const actions = button("New token", make, { kind: "primary", icon: "plus", test: "new-token" });
  const about = { lead: "For programs that act as you.", actions, flush: true };
  return { element: card("API tokens", about, list.element), reload: list.reload };
}

/** @param {Context} context @param {ApiToken[]} tokens @param {() => Promise<void>} reload */
function tokenTable(context, tokens, reload) {
  return table(
    "API tokens",
    [
      { title: "Name", kind: "main", cell: (token) => h("span", { class: "cell-main" }, icon("key"), token.name) },
      { title: "May use", cell: scopeCell },
      { title: "Made", cell: (token) => when(token.created_at) },
      { title: "Last used", cell: (token) => when(token.last_used_at) },
      { title: "Ends", cell: (token) => (token.expires_at === null ? "Never" : when(token.expires_at)) },
      { title: "Actions", quiet: true, kind: "actions", cell: (token) => revokeToken(context, token, reload) },
    ],
    tokens,
    { test: (token) => `token-${token.id}` },
  );
}

/** @param {ApiToken} token */
function scopeCell({ scopes }) {
  if (scopes === null) {
    return "Everything you may";
  }
  const [first, ...others] = scopes.permissions;
  if (first === undefined) {
    return "Nothing";
  }
  const more = others.length > 0 && h("span", { class: "cell-more" }, ` and ${others.length} more`);
  return h("span", { title: scopes.permissions.join("\n") }, h("code", null, first), more);
}

/** @param {Context} context @param {ApiToken} token @param {() => Promise<void>} reload */
function revokeToken(context, token, reload) {
  const revoke = async () => {
    const text = [h("strong", null, token.name), " stops working at once. Whatever uses it is cut off."];
    const act = () => context.api.delete(["/auth/tokens", token.id]);
    if (await confirm("Revoke this token?", text, "Revoke token", act)) {
      toast("The token was revoked.");
      await reload();
    }
  };
  return button("Revoke", () => void revoke(), { kind: "quiet-danger", small: true, label: `Revoke ${token.name}` });
}

/** @param {string | null} at */
function when(at) {
  return at === null
    ? "Never"
    : h("time", { datetime: at, title: wholeMoment(at) }, isNear(at) ? fromNow(at) : day(at));
}

/** @param {string} at */
function isNear(at) {
  return Math.abs(new Date(at).getTime() - now()) < 14 * 86_400_000;
}
