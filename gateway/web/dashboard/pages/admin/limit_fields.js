/** The fields that a limit has: how much, in which period, and whether it may be passed. */

import { h } from "../../dom.js";
import { checkBox, choiceField, textField } from "../../components/field.js";

/** @type {[string, string][]} */
export const PERIODS = [
  ["hour", "an hour"],
  ["day", "a day"],
  ["week", "a week"],
  ["month", "a month"],
  ["year", "a year"],
  ["never", "in all"],
];

/** @typedef {{limit: number | null, period: string, hard: boolean}} Limit */

/**
 * What a field for a limit says: a number, `null` for none, `undefined` for what is neither.
 *
 * @param {string} text
 * @returns {number | null | undefined}
 */
export function limitOf(text) {
  const bare = text.trim().replace(/[,\s]/g, "");
  if (bare === "") {
    return null;
  }
  const number = Number(bare);
  return Number.isSafeInteger(number) && number >= 0 ? number : undefined;
}

/** @param {{limit?: number | null, period: string, hard?: boolean} | undefined} value */
export function limitFields(value) {
  const shown = value === undefined || value.limit === null || value.limit === undefined ? "" : String(value.limit);
  const limit = textField("Limit", { inputmode: "numeric", value: shown, test: "limit" }, { hint: "Empty: no limit" });
  const period = choiceField("Period", PERIODS, { value: value?.period ?? "month" });
  const hard = checkBox("Hard: nothing is given beyond it", { checked: value?.hard ?? true });
  return {
    element: h("div", { class: "form" }, h("div", { class: "form-row" }, limit.element, period.element), hard.element),
    /** @returns {Limit | null} `null`: something is wrong, and told */
    read() {
      const number = limitOf(limit.input.value);
      limit.complain(number === undefined ? "A whole number, or nothing for no limit." : null);
      if (number === undefined) {
        limit.input.focus();
        return null;
      }
      return { limit: number, period: period.input.value, hard: hard.input.checked };
    },
  };
}
