/** What has to be asked for: a skeleton at first, then the content, or what went wrong. */

import { h, replace, setMark } from "../dom.js";
import { inWords } from "../api.js";
import { icon } from "./icon.js";

/** @param {number} [lines] */
export function skeleton(lines = 3) {
  const widths = ["92%", "78%", "86%", "64%"];
  return h(
    "div",
    { class: "skeleton", "aria-hidden": "true" },
    Array.from({ length: lines }, (_, index) =>
      h("span", { class: "skeleton-line", style: { width: widths[index % widths.length] } }),
    ),
  );
}

/** A page that is not there yet. */
export function pageSkeleton() {
  return h(
    "div",
    { class: "page" },
    h("h1", { class: "visually-hidden" }, "Loading"),
    h("span", { class: "skeleton-line skeleton-title", "aria-hidden": "true" }),
    h("div", { class: "card" }, h("div", { class: "card-body" }, skeleton(3))),
    h("div", { class: "card" }, h("div", { class: "card-body" }, skeleton(4))),
  );
}

/**
 * What went wrong, and a button to try again.
 *
 * @param {string} text
 * @param {() => void} retry
 */
export function failure(text, retry) {
  return h(
    "div",
    { class: "failure", role: "alert" },
    h("span", { class: "failure-icon" }, icon("warning")),
    h("p", { test: "problem" }, text),
    h("button", { type: "button", class: "button", onclick: retry, test: "retry" }, "Try again"),
  );
}

/** @typedef {{element: HTMLElement, reload: () => Promise<void>}} Loading */

/**
 * Asks and shows. `reload` asks again and leaves what is shown there until the answer is.
 *
 * @template T
 * @param {() => Promise<T>} load
 * @param {(value: T) => import("../dom.js").Child} show
 * @param {AbortSignal} signal
 * @param {number} [lines] of the skeleton
 * @returns {Loading}
 */
export function loading(load, show, signal, lines = 3) {
  const element = h("div", { class: "loading" }, skeleton(lines));
  let turn = 0;
  const reload = async () => {
    turn += 1;
    const mine = turn;
    setMark(element, "aria-busy", true);
    let content;
    try {
      content = show(await load());
    } catch (error) {
      content = failure(inWords(error), () => void reload());
    }
    if (!signal.aborted && mine === turn) {
      replace(element, content);
      setMark(element, "aria-busy", null);
    }
  };
  void reload();
  return { element, reload };
}
