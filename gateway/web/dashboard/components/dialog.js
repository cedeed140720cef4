/** Dialogs: what needs an answer before anything else goes on. */

import { freshId, h } from "../dom.js";
import { acting, button, iconButton } from "./button.js";

/** @typedef {import("../dom.js").Child} Child */

/**
 * @typedef {object} Opened
 * @property {HTMLDialogElement} element
 * @property {() => void} close
 * @property {Promise<void>} closed
 */

/**
 * Opens a dialog. The focus goes into it, and back when it is closed; `Escape` closes it. It is removed then.
 *
 * @param {string} title
 * @param {{class?: string, signal?: AbortSignal, foot?: Child}} about
 * @param {...Child} children
 * @returns {Opened}
 */
export function openDialog(title, about, ...children) {
  const id = freshId("dialog");
  const before = /** @type {HTMLElement | null} */ (document.activeElement);
  const close = () => element.close();
  const element = h(
    "dialog",
    { class: `dialog ${about.class ?? ""}`, "aria-labelledby": id },
    h("div", { class: "dialog-head" }, h("h2", { id }, title), iconButton("close", "Close", close)),
    h("div", { class: "dialog-body" }, ...children),
    about.foot && h("div", { class: "dialog-foot" }, about.foot),
  );
  const closed = new Promise(
    /** @param {(value: void) => void} done */ (done) => {
      element.addEventListener("close", () => {
        element.remove();
        before?.isConnected && before.focus();
        done();
      });
    },
  );
  about.signal?.addEventListener("abort", close, { once: true });
  document.body.append(element);
  element.showModal();
  return { element, close, closed };
}

/**
 * Asks before something is done that can not be taken back, and does it: the dialog stays until it is done, and tells
 * what went wrong.
 *
 * @param {string} title
 * @param {Child} text
 * @param {string} verb what the button says
 * @param {() => Promise<unknown>} act
 * @param {{danger?: boolean}} [about]
 * @returns {Promise<boolean>} whether it was done
 */
export async function confirm(title, text, verb, act, about = { danger: true }) {
  let done = false;
  const problem = h("p", { class: "form-problem", role: "alert", hidden: true, test: "problem" });
  const yes = button(verb, () => void confirmed(), { kind: about.danger ? "danger" : "primary", test: "confirm" });
  const no = button("Cancel", () => opened.close(), { test: "cancel" });
  const confirmed = async () => {
    problem.hidden = true;
    await acting(
      yes,
      async () => {
        await act();
        done = true;
        opened.close();
      },
      (words) => {
        problem.textContent = words;
        problem.hidden = false;
      },
    );
  };
  const opened = openDialog(title, { class: "dialog-small", foot: [no, yes] }, h("p", null, text), problem);
  no.focus();
  await opened.closed;
  return done;
}
