/** A field for a moment, in the time zone of whoever looks. */

import { textField } from "./field.js";

export const HERE = new Intl.DateTimeFormat("en").resolvedOptions().timeZone;

/**
 * @param {string} label
 * @param {{value?: string | null, hint?: string, test?: string, name?: string}} [about] `value`: RFC 3339
 */
export function momentField(label, about = {}) {
  const { value = null, hint, test, name } = about;
  const shown = value === null ? "" : localText(value);
  const made = textField(label, { type: "datetime-local", value: shown, test, name }, { hint });
  return {
    ...made,
    /** What stands in it, RFC 3339; `null`: nothing. What was not touched is what it was, to the millisecond. */
    moment() {
      const text = made.input.value;
      if (text === shown) {
        return value;
      }
      const time = new Date(text).getTime();
      return text === "" || Number.isNaN(time) ? null : new Date(time).toISOString();
    },
  };
}

/** @param {string} value */
function localText(value) {
  const at = new Date(value);
  const pad = (/** @type {number} */ figure, length = 2) => String(figure).padStart(length, "0");
  const day = `${pad(at.getFullYear(), 4)}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
  return `${day}T${pad(at.getHours())}:${pad(at.getMinutes())}`;
}
