/** What differs between two values of JSON, place by place. */

import { h } from "../dom.js";
import { own } from "../own.js";

const SHOWN = 8;

/** @typedef {{path: string, before: unknown, after: unknown}} Difference  `undefined`: it is not there */

/**
 * Where two values differ: objects member by member, everything else as a whole.
 *
 * @param {unknown} before
 * @param {unknown} after
 * @param {string} [path]
 * @returns {Difference[]}
 */
export function differences(before, after, path = "") {
  const old = plainObject(before);
  const now = plainObject(after);
  if (old !== null || now !== null) {
    if ((old === null && !isNothing(before)) || (now === null && !isNothing(after))) {
      return [{ path, before, after }];
    }
    const names = [...new Set([...Object.keys(old ?? {}), ...Object.keys(now ?? {})])].sort();
    const found = names.flatMap((name) =>
      differences(own(old, name), own(now, name), path === "" ? name : `${path}.${name}`),
    );
    const bare = found.length === 0 && (old === null) !== (now === null) && path !== "";
    return bare ? [{ path, before, after }] : found;
  }
  if (isNames(before) && isNames(after)) {
    return ofNames(before, after, path);
  }
  const same = JSON.stringify(before ?? null) === JSON.stringify(after ?? null);
  return same ? [] : [{ path, before, after }];
}

/** @param {unknown} value @returns {value is string[]} */
function isNames(value) {
  return Array.isArray(value) && value.every((one) => typeof one === "string");
}

/**
 * What was taken out of a list of names, and what came into it.
 *
 * @param {string[]} before
 * @param {string[]} after
 * @param {string} path
 * @returns {Difference[]}
 */
function ofNames(before, after, path) {
  const lost = before.filter((name) => !after.includes(name));
  const gained = after.filter((name) => !before.includes(name));
  const shown = (/** @type {string[]} */ names) => (names.length > 0 ? names.join(", ") : undefined);
  return lost.length + gained.length > 0 ? [{ path, before: shown(lost), after: shown(gained) }] : [];
}

/** @param {unknown} value @returns {Record<string, unknown> | null} */
function plainObject(value) {
  const plain = typeof value === "object" && value !== null && !Array.isArray(value);
  return plain ? /** @type {Record<string, unknown>} */ (value) : null;
}

/** @param {unknown} value */
function isNothing(value) {
  return value === undefined || value === null;
}

/**
 * The differences as a list: what it was, struck out, and what it is.
 *
 * @param {unknown} before
 * @param {unknown} after
 */
export function differenceView(before, after) {
  const found = differences(before, after);
  if (found.length === 0) {
    return h("p", { class: "diff-none" }, "Nothing differs.");
  }
  const rest = found.slice(SHOWN);
  return h(
    "div",
    { class: "diff" },
    lines(found.slice(0, SHOWN)),
    rest.length > 0 && h("details", null, h("summary", null, `${rest.length} more`), lines(rest)),
  );
}

/** @param {Difference[]} found */
function lines(found) {
  return h("ul", { class: "diff-lines" }, found.map(line));
}

/** @param {Difference} difference */
function line({ path, before, after }) {
  return h(
    "li",
    { class: "diff-line" },
    path !== "" && h("code", { class: "diff-path" }, path),
    !isNothing(before) && h("del", { class: "diff-before" }, inShort(before)),
    !isNothing(after) && h("ins", { class: "diff-after" }, inShort(after)),
  );
}

/** A value in one line. @param {unknown} value @returns {string} */
export function inShort(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text === "" ? "“”" : text.length > 400 ? `${text.slice(0, 400)}…` : text;
}
