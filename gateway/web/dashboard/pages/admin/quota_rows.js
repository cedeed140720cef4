/** The quotas of a plan, each a row of fields. */

import { h, setShown } from "../../dom.js";
import { nameProblem } from "../../names.js";
import { button, iconButton } from "../../components/button.js";
import { checkBox, choiceField, textField } from "../../components/field.js";
import { PERIODS, limitOf } from "./limit_fields.js";
import { suggestions } from "./known_names.js";

/** @typedef {import("./limit_fields.js").Limit} Limit */

/**
 * @param {Record<string, Limit>} given
 * @param {boolean} locked whether they can only be looked at
 */
export function quotaRows(given, locked) {
  /** @type {ReturnType<typeof quotaRow>[]} */
  let rows = [];
  /** @type {string[]} */
  let known = [];
  const place = h("div", { class: "quota-rows" });
  const none = h("p", { class: "hint" }, "None.");
  const add = (/** @type {string | null} */ name, /** @type {Limit} */ limit) => {
    const row = quotaRow(name, limit, locked, () => {
      rows = rows.filter((one) => one !== row);
      row.element.remove();
      setShown(none, rows.length === 0);
    });
    rows.push(row);
    place.append(row.element);
    setShown(none, false);
    return row;
  };
  Object.entries(given).forEach(([name, limit]) => add(name, limit));
  setShown(none, rows.length === 0);
  const fresh = () => {
    const row = add(null, { limit: null, period: "month", hard: true });
    suggestions(row.name.input, known);
    row.name.input.focus();
  };
  const more = !locked && h("div", null, button("Add a quota", fresh, { icon: "plus", test: "add-quota" }));
  return {
    element: h("div", { class: "form" }, place, none, more),
    read: () => readRows(rows),
    /** @param {string[]} names */
    suggest(names) {
      known = names;
    },
  };
}

/**
 * @param {ReturnType<typeof quotaRow>[]} rows
 * @returns {Record<string, Limit> | null} `null`: something is wrong, and told
 */
function readRows(rows) {
  const read = rows.map((row) => row.read());
  const names = read.map((row) => row?.[0]);
  rows.forEach((row, index) => {
    if (read[index] !== null && names.indexOf(names[index]) < index) {
      row.name.complain("It stands here twice.");
      read[index] = null;
    }
  });
  const wrong = read.indexOf(null);
  if (wrong >= 0) {
    /** @type {HTMLElement | null} */ (rows[wrong].element.querySelector('[aria-invalid="true"]'))?.focus();
  }
  return wrong >= 0 ? null : Object.fromEntries(/** @type {[string, Limit][]} */ (read));
}

/**
 * @param {string | null} given what it is called, which stays; `null`: it is asked for
 * @param {Limit} value
 * @param {boolean} locked
 * @param {() => void} remove
 */
function quotaRow(given, value, locked, remove) {
  const called = given ?? "";
  const text = { spellcheck: "false", autocapitalize: "none", disabled: locked };
  const name = textField("Quota", { ...text, value: called, readonly: given !== null, test: `quota-name-${called}` });
  const shown = value.limit === null ? "" : String(value.limit);
  const limit = textField("Limit", {
    value: shown,
    placeholder: "No limit",
    inputmode: "numeric",
    disabled: locked,
    test: `limit-${called}`,
  });
  const period = choiceField("Period", PERIODS, { value: value.period, disabled: locked });
  const hard = checkBox("Hard", { checked: value.hard, disabled: locked });
  const away = !locked && iconButton("close", `Remove the quota ${called}`, remove);
  return {
    name,
    element: h(
      "div",
      { class: "quota-row", role: "group", "aria-label": called || "New quota", test: `plan-quota-${called}` },
      name.element,
      limit.element,
      period.element,
      hard.element,
      away,
    ),
    /** @returns {[string, Limit] | null} */
    read() {
      const quota = given ?? name.input.value.trim();
      const number = limitOf(limit.input.value);
      const wrong = given === null ? nameProblem(quota, "quota") : null;
      name.complain(wrong);
      limit.complain(number === undefined ? "A whole number, or nothing for no limit." : null);
      return wrong !== null || number === undefined
        ? null
        : [quota, { limit: number, period: period.input.value, hard: hard.input.checked }];
    },
  };
}
