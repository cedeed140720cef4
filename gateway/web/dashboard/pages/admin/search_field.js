/** A field to search by. */

import { h } from "../../dom.js";
import { icon } from "../../components/icon.js";

const TYPED_MS = 200;

/**
 * @param {{label: string, placeholder: string, value: string | null, test: string}} about `label`: its name for screen
 *   readers
 */
export function searchField({ label, placeholder, value, test }) {
  const attributes = { type: "search", class: "input", placeholder, "aria-label": label, test };
  const input = h("input", { ...attributes, value: value ?? "", spellcheck: "false", autocapitalize: "none" });
  return { input, element: h("div", { class: "search-field" }, icon("search"), input) };
}

/**
 * Calls `act` when somebody has typed, and not for each letter.
 *
 * @param {HTMLElement} input
 * @param {() => void} act
 * @param {AbortSignal} signal
 */
export function onceTyped(input, act, signal) {
  let timer = 0;
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => signal.aborted || act(), TYPED_MS);
  });
}
