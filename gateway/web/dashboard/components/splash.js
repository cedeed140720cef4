/** What is shown while it is not known yet who is there. */

import { h } from "../dom.js";
import { logo } from "./icon.js";

/**
 * @param {string | null} problem why it takes so long, for people
 * @param {() => void} retry
 */
export function splash(problem, retry) {
  const trouble =
    problem === null
      ? h("p", { class: "splash-text" }, "Connecting…")
      : [
          h("p", { class: "splash-text", role: "alert", "data-test": "problem" }, problem),
          h("button", { type: "button", class: "button", onclick: retry, test: "retry" }, "Try again now"),
        ];
  return h("main", { class: "splash" }, h("h1", { class: "visually-hidden" }, "Gateway"), logo(), trouble);
}
