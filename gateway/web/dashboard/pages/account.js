/** What somebody changes about themselves: name, e-mail address, time zone, password; and how the dashboard looks. */

import { h } from "../dom.js";
import { passwordField, choiceField, form, textField } from "../components/field.js";
import { icon } from "../components/icon.js";
import { card, page } from "../components/layout.js";
import { loading } from "../components/loading.js";
import { toast } from "../components/toast.js";
import { chooseTheme, chosenTheme, THEMES } from "../theme.js";

/** @typedef {import("../app.js").Context} Context */

const FIELDS = /** @type {const} */ (["name", "email", "timezone"]);
const THEME_ICONS = /** @type {const} */ ({ system: "system", light: "sun", dark: "moon" });
const THEME_NAMES = { system: "System", light: "Light", dark: "Dark" };
const SEEN_MS = 5000;

/** @param {Context} context */
export function mount(context) {
  const lead = "What others see of you, and how you sign in.";
  return page("Account", { lead }, profileCard(context), passwordCard(context), themeCard(context.signal));
}

// --- profile ---

/** @param {Context} context */
function profileCard(context) {
  const { api, signal, session } = context;
  const load = () => api.get(pathOf(session), { signal });
  const profile = loading(load, (user) => profileForm(context, user), signal, 4);
  return card("Profile", { lead: "Saved changes show wherever you are signed in." }, profile.element);
}

/** @param {import("../session.js").Session} session */
function pathOf(session) {
  return ["/users", session.identity.id];
}

/** @param {Context} context @param {any} user */
function profileForm(context, user) {
  const { api, channel, session } = context;
  const name = textField("Name", { maxlength: 200, autocomplete: "name", test: "account-name" });
  const email = textField("E-mail address", { type: "email", autocomplete: "email", test: "account-email" });
  const zone = choiceField(
    "Time zone",
    zones(user.timezone),
    { test: "account-timezone" },
    { hint: "Days and months of your quotas begin by it." },
  );
  const username = textField("User name", { readonly: true, value: user.username }, { hint: "Set by administrators." });
  const inputs = { name: name.input, email: email.input, timezone: zone.input };
  /** What the fields said before anybody edited them: an input shows no line feeds. @type {Record<string, string>} */
  const untouched = {};
  let known = adopt(inputs, untouched, user, FIELDS);
  const submit = async () => {
    const changed = FIELDS.filter(
      (field) => inputs[field].value !== untouched[field] && inputs[field].value.trim() !== (known[field] ?? ""),
    );
    if (changed.length === 0) {
      toast("There is nothing to save.");
      return;
    }
    const body = Object.fromEntries(changed.map((field) => [field, inputs[field].value.trim() || null]));
    const now = await api.patch(pathOf(session), body);
    known = adopt(inputs, untouched, now, changed);
    await seen(channel, now.seq);
    toast("Saved.");
  };
  follow(context, async () => {
    known = adopt(inputs, untouched, await api.get(pathOf(session), { signal: context.signal }));
  });
  const rows = [name, username, email, zone].map((field) => field.element);
  const about = { verb: "Save", test: "account-form", verbTest: "account-save", label: "Profile" };
  return form(about, submit, h("div", { class: "form-row form-pairs" }, rows));
}

/**
 * Takes what is there now into the fields that nobody has touched, and into `saved` ones.
 *
 * @param {Record<string, HTMLInputElement | HTMLSelectElement>} inputs
 * @param {Record<string, string>} untouched what the fields say as long as nobody edits them
 * @param {any} now
 * @param {readonly string[]} [saved]
 */
function adopt(inputs, untouched, now, saved = []) {
  for (const field of FIELDS) {
    if (saved.includes(field) || inputs[field].value === untouched[field]) {
      inputs[field].value = now[field] ?? "";
      untouched[field] = inputs[field].value;
    }
  }
  return now;
}

/**
 * Calls `changed` when somebody changed the account elsewhere.
 *
 * @param {Context} context
 * @param {() => Promise<void>} changed
 */
function follow(context, changed) {
  let at = context.session.identity.updated_at;
  context.live.document((data) => {
    if (data.identity.updated_at !== at) {
      at = data.identity.updated_at;
      changed().catch(() => undefined);
    }
  }, context.signal);
}

/**
 * Waits until the page shows a commit, and no longer than is bearable.
 *
 * @param {Context["channel"]} channel
 * @param {number} seq
 */
async function seen(channel, seq) {
  try {
    await channel.waitFor(seq, { signal: AbortSignal.timeout(SEEN_MS) });
  } catch {
    // It is saved; the page will show it when it is connected.
  }
}

/** @param {string} present @returns {[string, string][]} */
function zones(present) {
  const all = new Set(["UTC", ...Intl.supportedValuesOf("timeZone"), present]);
  return [...all].sort().map((zone) => [zone, zone.replaceAll("_", " ")]);
}

// --- password ---

/** @param {Context} context */
function passwordCard(context) {
  const { api, session } = context;
  const hint = "15 characters or more. A few unrelated words are easy to remember and hard to guess.";
  const old = passwordField("Current password", { autocomplete: "current-password", test: "password-old" });
  const wanted = passwordField("New password", { autocomplete: "new-password", test: "password-new" }, { hint });
  const again = passwordField("New password, again", { autocomplete: "new-password", test: "password-again" });
  const username = h("input", {
    type: "text",
    autocomplete: "username",
    value: session.identity.username,
    hidden: true,
  });
  const submit = async () => {
    const problem = problemOf(old, wanted, again);
    if (problem !== null) {
      problem.field.complain(problem.text);
      problem.field.input.focus();
      return;
    }
    await api.post("/auth/password", { old_password: old.input.value, new_password: wanted.input.value });
    [old, wanted, again].forEach((field) => (field.input.value = ""));
    toast("The password was changed. All your other sessions were signed out.");
  };
  const test = { test: "password-form", verbTest: "password-save" };
  const about = { verb: "Change password", ...test, label: "Password", narrow: true };
  const lead = "Changing it signs you out everywhere else. API tokens stay.";
  return card("Password", { lead }, form(about, submit, username, old.element, wanted.element, again.element));
}

/** @typedef {import("../components/field.js").Field} Field */

/** @param {Field} old @param {Field} wanted @param {Field} again @returns {{field: Field, text: string} | null} */
function problemOf(old, wanted, again) {
  if (old.input.value === "") {
    return { field: old, text: "The current password is needed." };
  }
  if (wanted.input.value === "") {
    return { field: wanted, text: "A new password is needed." };
  }
  return wanted.input.value === again.input.value ? null : { field: again, text: "The two are not the same." };
}

// --- appearance ---

/** @param {AbortSignal} signal */
function themeCard(signal) {
  const choices = THEMES.map((theme) => {
    const input = h("input", { type: "radio", name: "theme", value: theme, onchange: () => chooseTheme(theme) });
    return { theme, input, element: h("label", null, input, icon(THEME_ICONS[theme]), THEME_NAMES[theme]) };
  });
  const draw = () => choices.forEach(({ theme, input }) => (input.checked = theme === chosenTheme()));
  document.addEventListener("theme", draw, { signal });
  draw();
  const lead = "Kept in this browser.";
  const parts = choices.map((choice) => choice.element);
  const group = h("div", { class: "segmented", role: "radiogroup", "aria-label": "Theme" }, parts);
  return card("Appearance", { lead }, h("div", null, group));
}
