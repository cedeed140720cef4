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
  return problem(text, h("button", { type: "button", class: "button", onclick: retry, test: "retry" }, "Try again"));
}

/**
 * What went wrong, and a button to load the whole page again.
 *
 * @param {string} text
 */
export function outdated(text) {
  const reload = () => location.reload();
  return problem(text, h("button", { type: "button", class: "button", onclick: reload, test: "reload" }, "Reload"));
}

/** @param {string} text @param {HTMLElement} way out */
function problem(text, way) {
  return h(
    "div",
    { class: "failure", role: "alert" },
    h("span", { class: "failure-icon" }, icon("warning")),
    h("p", { test: "problem" }, text),
    way,
  );
}

const FAILED = "failed: ";

/** @typedef {{element: HTMLElement, reload: () => Promise<void>}} Loading */

/**
 * Asks and shows. `reload` asks again and leaves what is shown there until the answer is, and also when it is the same.
 * What failed is asked for again by itself when the channel has come back.
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
  let shown = "";
  const reload = async () => {
    turn += 1;
    const mine = turn;
    setMark(element, "aria-busy", true);
    const { key, content } = await asked(load, show, () => void reload());
    if (!signal.aborted && mine === turn) {
      setMark(element, "aria-busy", null);
      if (key !== shown) {
        shown = key;
        put(element, content());
      }
    }
  };
  const again = () => shown.startsWith(FAILED) && void reload();
  document.addEventListener("live-again", again, { signal });
  void reload();
  return { element, reload };
}

/**
 * @template T
 * @param {() => Promise<T>} load
 * @param {(value: T) => import("../dom.js").Child} show
 * @param {() => void} retry
 * @returns {Promise<{key: string, content: () => import("../dom.js").Child}>} `key` tells one content from another
 */
async function asked(load, show, retry) {
  try {
    const value = await load();
    return { key: `is ${JSON.stringify(value)}`, content: () => show(value) };
  } catch (error) {
    return { key: FAILED + inWords(error), content: () => failure(inWords(error), retry) };
  }
}

/**
 * Puts content into its place; the focus stays on the same row, or goes to the title when that is gone.
 *
 * @param {HTMLElement} element
 * @param {import("../dom.js").Child} content
 */
function put(element, content) {
  const focused = element.contains(document.activeElement) ? document.activeElement : null;
  const test = focused?.closest("[data-test]")?.getAttribute("data-test");
  replace(element, content);
  if (focused !== null) {
    const again = test ? element.querySelector(`[data-test="${CSS.escape(test)}"]`) : null;
    const place = again?.matches("button, a") ? again : again?.querySelector("button, a");
    const title = element.closest("section")?.querySelector("h2");
    title?.setAttribute("tabindex", "-1");
    /** @type {HTMLElement | null | undefined} */ (place ?? title)?.focus();
  }
}
