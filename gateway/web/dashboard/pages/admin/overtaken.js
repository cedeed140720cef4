/** What is said when somebody else changed what is being edited. */

import { h } from "../../dom.js";
import { button } from "../../components/button.js";
import { differenceView } from "../../components/difference.js";
import { note } from "../../components/layout.js";

/**
 * @param {string} what "this user"
 * @param {unknown} before as it was read
 * @param {unknown} after as it stands now
 * @param {() => void} load takes over what stands there
 */
export function overtaken(what, before, after, load) {
  return note(
    "warning",
    h(
      "div",
      { class: "overtaken" },
      h("p", null, `Somebody else changed ${what}. Nothing is saved until you have taken that over:`),
      differenceView(before, after),
      button("Load what stands there now", load, { small: true, test: "reload" }),
    ),
  );
}
