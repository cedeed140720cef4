/** Buttons, and what they set going. */

import { h, setMark } from "../dom.js";
import { inWords } from "../api.js";
import { icon } from "./icon.js";
import { toast } from "./toast.js";

/**
 * @param {import("../dom.js").Child} label
 * @param {(event: Event) => void} onclick
 * @param {{kind?: "primary" | "danger" | "quiet" | "quiet-danger", icon?: import("./icon.js").IconName,
 *   test?: string, title?: string, label?: string, small?: boolean}} [about] `label`: what it is called where its
 *   text does not say enough
 */
export function button(label, onclick, about = {}) {
  const classes = ["button", about.kind && `button-${about.kind}`, about.small && "button-small"];
  return h(
    "button",
    {
      type: "button",
      class: classes.filter(Boolean).join(" "),
      "aria-label": about.label,
      title: about.title,
      test: about.test,
      onclick,
    },
    about.icon && icon(about.icon),
    label && h("span", null, label),
  );
}

/**
 * A button that is an icon; `label` is its name.
 *
 * @param {import("./icon.js").IconName} iconName
 * @param {string} label
 * @param {(event: Event) => void} onclick
 * @param {string} [test]
 */
export function iconButton(iconName, label, onclick, test) {
  return h(
    "button",
    { type: "button", class: "icon-button", "aria-label": label, title: label, onclick, test },
    icon(iconName),
  );
}

/**
 * Carries out what a button set going: the button shows that it is under way and can not be pressed again; what goes
 * wrong is told.
 *
 * @template T
 * @param {HTMLButtonElement | null} pressed
 * @param {() => Promise<T>} act
 * @param {(problem: string, error: unknown) => void} [failed] default: a message at the edge
 * @returns {Promise<T | undefined>}
 */
export async function acting(pressed, act, failed = (problem) => toast(problem, "bad")) {
  if (pressed?.getAttribute("aria-disabled") === "true") {
    return undefined;
  }
  if (pressed !== null) {
    setMark(pressed, "aria-disabled", true);
    setMark(pressed, "data-busy", "");
  }
  try {
    return await act();
  } catch (error) {
    failed(inWords(error), error);
    return undefined;
  } finally {
    if (pressed !== null) {
      setMark(pressed, "aria-disabled", null);
      setMark(pressed, "data-busy", null);
    }
  }
}

/**
 * A button that copies a text.
 *
 * @param {() => string} text
 * @param {string} [label]
 */
export function copyButton(text, label = "Copy") {
  const made = button(label, () => void copy(), { icon: "copy" });
  const said = made.querySelector("span");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text());
      said && (said.textContent = "Copied");
    } catch {
      toast("The browser did not let this be copied. Select it and copy it by hand.", "bad");
    }
  };
  return made;
}
