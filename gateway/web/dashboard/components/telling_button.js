/** A button that tells what went wrong right beside it: in a dialog, where messages at the edge are not seen. */

import { h, setShown, setText } from "../dom.js";
import { acting, button } from "./button.js";

/**
 * @param {string} label
 * @param {() => Promise<unknown>} act
 * @param {{kind?: "primary" | "danger" | "quiet" | "quiet-danger", test?: string, small?: boolean}} about
 */
export function tellingButton(label, act, about) {
  const problem = h("p", { class: "form-problem", role: "alert", hidden: true, test: "problem" });
  const failed = (/** @type {string} */ words) => {
    setText(problem, words);
    setShown(problem, true);
  };
  const press = () => {
    setShown(problem, false);
    void acting(made, act, failed);
  };
  const made = button(label, press, about);
  return h("div", { class: "telling" }, made, problem);
}
