/** A table whose rows come page by page, by cursor. */

import { append, h, replace, setMark, setShown, setText } from "../dom.js";
import { inWords } from "../api.js";
import { counted } from "../format.js";
import { acting, button } from "./button.js";
import { failure, skeleton } from "./loading.js";
import { table, tableRow } from "./table.js";

/**
 * @template Row
 * @typedef {object} Paged
 * @property {string} caption for screen readers
 * @property {import("./table.js").Column<Row>[]} columns
 * @property {(cursor: string | null) => Promise<{items: Row[], next: string | null}>} load
 * @property {(row: Row) => string} [test]
 * @property {() => Node} empty what stands there without rows
 * @property {string} noun of a row, to count them
 * @property {string} [nouns] of several
 * @property {AbortSignal} signal
 * @property {(rows: Row[]) => void} [shown] called when rows were added
 */

/** @template Row */
export class PagedTable {
  /** @param {Paged<Row>} about */
  constructor(about) {
    this._about = about;
    /** @type {Row[]} */
    this.rows = [];
    /** @type {string | null} */
    this._next = null;
    this._turn = 0;
    this._content = h("div", null, skeleton(5));
    this._count = h("p", { class: "paged-count", role: "status" });
    this._more = button("Show more", () => void acting(this._more, () => this._addPage()), { test: "more" });
    this._foot = h("div", { class: "paged-foot", hidden: true }, this._count, this._more);
    this.element = h("div", { class: "paged" }, this._content, this._foot);
  }

  /** Asks for the first page again; what is shown stays until it is there. */
  async reload() {
    this._turn += 1;
    const turn = this._turn;
    setMark(this.element, "aria-busy", true);
    try {
      const page = await this._about.load(null);
      if (turn === this._turn && !this._about.signal.aborted) {
        this._show(page.items, page.next);
      }
    } catch (error) {
      if (turn === this._turn && !this._about.signal.aborted) {
        replace(
          this._content,
          failure(inWords(error), () => void this.reload()),
        );
        setShown(this._foot, false);
      }
    } finally {
      if (turn === this._turn) {
        setMark(this.element, "aria-busy", null);
      }
    }
  }

  /** Takes a row out of what is shown. @param {Row} row */
  drop(row) {
    this._show(
      this.rows.filter((one) => one !== row),
      this._next,
    );
  }

  /** Puts another row in the place of one. @param {Row} row @param {Row} other */
  exchange(row, other) {
    this._show(
      this.rows.map((one) => (one === row ? other : one)),
      this._next,
    );
  }

  async _addPage() {
    const turn = this._turn;
    const page = await this._about.load(this._next);
    if (turn !== this._turn || this._about.signal.aborted) {
      return;
    }
    const { columns, test } = this._about;
    const body = this._content.querySelector("tbody");
    body &&
      append(
        body,
        page.items.map((row) => tableRow(columns, row, test?.(row))),
      );
    this._told([...this.rows, ...page.items], page.next);
    this._about.shown?.(page.items);
  }

  /** @param {Row[]} rows @param {string | null} next */
  _show(rows, next) {
    const { caption, columns, test, empty } = this._about;
    replace(this._content, rows.length === 0 ? empty() : table(caption, columns, rows, { test }));
    this._told(rows, next);
    this._about.shown?.(rows);
  }

  /** @param {Row[]} rows @param {string | null} next */
  _told(rows, next) {
    this.rows = rows;
    this._next = next;
    const { noun, nouns } = this._about;
    setText(this._count, `${counted(rows.length, noun, nouns)}${next === null ? "" : " so far"}`);
    setShown(this._more, next !== null);
    setShown(this._foot, rows.length > 0);
  }
}
