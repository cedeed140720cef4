/** Signing in: shown in the place of whatever page was asked for, which comes afterwards. */

import { h } from "../dom.js";
import { form, passwordField, textField } from "../components/field.js";
import { logo } from "../components/icon.js";
import { note } from "../components/layout.js";
import { announce } from "../components/toast.js";

const UNSAFE = "This page was not opened by https. A browser keeps no session then: signing in will not last.";

/** @param {import("../session.js").Session} session */
export function signInView(session) {
  document.title = "Sign in · Gateway";
  const name = textField("User name or e-mail", {
    name: "username",
    autocomplete: "username",
    autocapitalize: "none",
    spellcheck: "false",
    test: "sign-in-name",
  });
  const password = passwordField("Password", {
    name: "password",
    autocomplete: "current-password",
    test: "sign-in-password",
  });
  const submit = async () => {
    const empty = [name, password].filter(({ input }) => input.value === "");
    name.complain(name.input.value === "" ? "Say who you are." : null);
    password.complain(password.input.value === "" ? "The password is needed." : null);
    if (empty.length > 0) {
      empty[0].input.focus();
      return;
    }
    await session.signIn(name.input.value.trim(), password.input.value);
  };
  const about = { verb: "Sign in", test: "sign-in", verbTest: "sign-in-submit", label: "Sign in" };
  const signIn = form(about, submit, name.element, password.element);
  queueMicrotask(() => name.input.focus());
  if (session.notice !== null) {
    announce(session.notice);
  }
  return h(
    "main",
    { class: "sign-in" },
    h("div", { class: "sign-in-head" }, logo(), h("h1", null, "Sign in to Gateway")),
    session.notice && h("div", { test: "sign-in-reason" }, note("info", session.notice)),
    !window.isSecureContext && note("warning", UNSAFE),
    h("div", { class: "card" }, h("div", { class: "card-body" }, signIn)),
    h("p", { class: "sign-in-foot" }, "No account, or a lost password? An administrator can help."),
  );
}
