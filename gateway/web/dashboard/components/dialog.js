/** Dialogs: what needs an answer before anything else goes on. */

import { freshId, h } from "../dom.js";
import { acting, button, copyButton, iconButton } from "./button.js";

/** @typedef {import("../dom.js").Child} Child */

/**
 * @typedef {object} Opened
 * @property {HTMLDialogElement} element
 * @property {() => void} close
 * @property {Promise<void>} closed
 */

/**
 * Opens a dialog. The focus goes into it, and back when it is closed; `Escape` closes it, unless it is `insistent`:
 * then nothing does but what is in it. It is removed then.
 *
 * @param {string} title
 * @param {{class?: string, signal?: AbortSignal, foot?: Child, insistent?: boolean}} about
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
    h("div", { class: "dialog-head" }, h("h2", { id }, title), !about.insistent && iconButton("close", "Close", close)),
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
  if (about.insistent) {
    // Of `cancel` alone a browser lets the second one through.
    element.addEventListener("keydown", (event) => event.key === "Escape" && event.preventDefault());
    element.addEventListener("cancel", (event) => event.preventDefault());
  }
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

/**
 * Shows what can not be had again, until somebody says that they have it; then nothing here has it any more. Neither a
 * key that is pressed once too often nor another page takes it away.
 *
 * @param {string} title
 * @param {HTMLElement} shown
 * @param {{copy: string, test: string}} about what the button that copies it says
 * @param {...Child} why
 */
export async function showOnce(title, shown, about, ...why) {
  const copy = copyButton(() => shown.textContent ?? "", about.copy);
  const done = button("Done", () => opened.close(), { kind: "primary", test: `${about.test}-done` });
  const opened = openDialog(title, { insistent: true, foot: [copy, done] }, ...why, shown);
  copy.focus();
  await opened.closed;
  shown.textContent = "";
}
