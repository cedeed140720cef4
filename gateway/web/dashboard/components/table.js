/** Tables, which become lists of cards where there is little room. */

import { h, KeyedList, setShown, setText } from "../dom.js";
import { PartedList } from "./parted.js";

/** @typedef {import("../dom.js").Child} Child */

/**
 * @template Row
 * @typedef {object} Column
 * @property {string} title
 * @property {(row: Row) => Child} cell
 * @property {"number" | "actions" | "main"} [kind] how it stands: figures to the right, `main` is the head of the row
 * @property {boolean} [quiet] its title is for screen readers alone
 */

/**
 * @template Row
 * @param {string} caption for screen readers
 * @param {Column<Row>[]} columns
 * @param {readonly Row[]} rows
 * @param {{test?: (row: Row) => string}} [about]
 */
export function table(caption, columns, rows, about = {}) {
  const head = columns.map((column) =>
    h(
      "th",
      { scope: "col", role: "columnheader", "data-kind": column.kind },
      column.quiet ? h("span", { class: "visually-hidden" }, column.title) : column.title,
    ),
  );
  return h(
    "div",
    { class: "table-frame" },
    h(
      "table",
      { class: "table", role: "table" },
      h("caption", { class: "visually-hidden" }, caption),
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, head)),
      h(
        "tbody",
        { role: "rowgroup" },
        rows.map((row) => tableRow(columns, row, about.test?.(row))),
      ),
    ),
  );
}

/**
 * A row of such a table.
 *
 * @template Row
 * @param {Column<Row>[]} columns
 * @param {Row} row
 * @param {string} [test]
 */
export function tableRow(columns, row, test) {
  const cells = columns.map((column) => {
    const label = column.quiet || column.kind === "main" ? null : column.title;
    const tag = column.kind === "main" ? "th" : "td";
    const role = column.kind === "main" ? "rowheader" : "cell";
    const scope = column.kind === "main" ? "row" : null;
    return h(tag, { role, scope, "data-label": label, "data-kind": column.kind }, column.cell(row));
  });
  return h("tr", { role: "row", test }, cells);
}

/**
 * A list that can be narrowed by typing; `more` asks for all of very many.
 *
 * @template Item
 * @param {string} label
 * @param {KeyedList<Item>} list
 * @param {(item: Item) => string} text what is searched
 */
export function filtered(label, list, text) {
  /** @type {readonly Item[]} */
  let items = [];
  const input = h("input", { type: "search", class: "input input-search", placeholder: label, "aria-label": label });
  const none = h("p", { class: "empty-text", hidden: true });
  const parted = new PartedList(list);
  const draw = () => {
    const wanted = input.value.trim().toLowerCase();
    const found = wanted === "" ? items : items.filter((item) => text(item).toLowerCase().includes(wanted));
    parted.show(found);
    setText(none, `Nothing here matches “${input.value.trim()}”.`);
    setShown(none, found.length === 0 && items.length > 0);
  };
  input.addEventListener("input", draw);
  return {
    input,
    none,
    more: parted.more,
    /** @param {readonly Item[]} now */
    show(now) {
      items = now;
      draw();
    },
  };
}
