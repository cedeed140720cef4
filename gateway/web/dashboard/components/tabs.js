/** Tabs: parts of a page of which one is shown. */

import { freshId, h, setMark, setShown } from "../dom.js";

/**
 * @param {string} label what they are together
 * @param {{title: string, element: HTMLElement}[]} parts
 * @param {number} [first] which is shown first
 */
export function tabs(label, parts, first = 0) {
  const list = h("div", { class: "tabs", role: "tablist", "aria-label": label });
  const buttons = parts.map(({ title, element }, index) => {
    element.id ||= freshId("panel");
    const id = freshId("tab");
    setMark(element, "role", "tabpanel");
    setMark(element, "aria-labelledby", id);
    return h(
      "button",
      { type: "button", class: "tab", role: "tab", id, "aria-controls": element.id, onclick: () => choose(index) },
      title,
    );
  });
  const choose = (/** @type {number} */ chosen) => {
    buttons.forEach((tab, index) => {
      setMark(tab, "aria-selected", index === chosen);
      setMark(tab, "tabindex", index === chosen ? 0 : -1);
      setShown(parts[index].element, index === chosen);
    });
  };
  list.addEventListener("keydown", (event) => {
    const at = buttons.indexOf(/** @type {HTMLButtonElement} */ (document.activeElement));
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (at >= 0 && to !== undefined) {
      event.preventDefault();
      const index = (to + buttons.length) % buttons.length;
      choose(index);
      buttons[index].focus();
    }
  });
  list.append(...buttons);
  choose(first);
  return h(
    "div",
    { class: "tabbed" },
    list,
    parts.map((part) => part.element),
  );
}
