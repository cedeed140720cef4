/** Short messages at the edge of the page, and what only screen readers are told. */

import { h } from "../dom.js";
import { icon } from "./icon.js";

const SHOWN_MS = 6000;
const LONGER_MS = 12_000;
const MOST = 4;

/**
 * Tells something that happened. It goes by itself, and not while somebody is at it.
 *
 * @param {string} text
 * @param {"good" | "bad"} [tone]
 */
export function toast(text, tone = "good") {
  const region = document.getElementById("toasts");
  if (region === null) {
    return;
  }
  const close = h("button", { type: "button", class: "icon-button", "aria-label": "Dismiss" }, icon("close"));
  const element = h(
    "div",
    { class: "toast", "data-tone": tone, role: tone === "bad" ? "alert" : "status", test: "toast" },
    h("span", { class: "toast-icon" }, icon(tone === "bad" ? "warning" : "check")),
    h("p", null, text),
    close,
  );
  close.addEventListener("click", () => element.remove());
  while (region.childElementCount >= MOST) {
    region.firstElementChild?.remove();
  }
  region.append(element);
  goLater(element, tone === "bad" ? LONGER_MS : SHOWN_MS);
}

/** @param {HTMLElement} element @param {number} afterMs */
function goLater(element, afterMs) {
  setTimeout(() => {
    if (element.matches(":hover, :focus-within")) {
      goLater(element, afterMs);
    } else {
      element.remove();
    }
  }, afterMs);
}

/** @type {string[]} */
let waiting = [];

/**
 * Lets screen readers say something when they are done with what they say now.
 *
 * @param {string} text
 */
export function announce(text) {
  if (waiting.length === 0) {
    setTimeout(say, 150);
  }
  waiting.push(text);
}

function say() {
  const announcer = document.getElementById("announcer");
  const said = waiting.length > 5 ? [...waiting.slice(0, 5), `and ${waiting.length - 5} more`] : waiting;
  waiting = [];
  if (announcer !== null) {
    announcer.textContent = said.join(". ");
  }
}
