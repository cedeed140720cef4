/** Long lists: the first of them at first, and all of them, a part in each frame, for whoever asks. */

import { KeyedList, setShown, setText } from "../dom.js";
import { figure } from "../format.js";
import { forgetFrame, nextFrame } from "../frame.js";
import { button } from "./button.js";

const MOST_SHOWN = 60;
export const FIRST_SHOWN = 48;
const PART = 48;

/** @template Item */
export class PartedList {
  /** @param {KeyedList<Item>} list */
  constructor(list) {
    this._list = list;
    /** @type {readonly Item[]} */
    this._items = [];
    this._whole = false;
    this._most = FIRST_SHOWN;
    this._add = () => this._addPart();
    /** The button that asks for all of them. */
    this.more = button(" ", () => this._expand(), { small: true, test: "show-all" });
    this.more.classList.add("show-all");
    setShown(this.more, false);
  }

  /**
   * @param {readonly Item[]} items all of them
   * @param {() => readonly Item[]} [first] those that are shown as long as nobody asked for the others
   */
  show(items, first = () => items.slice(0, FIRST_SHOWN)) {
    this._items = items;
    const cut = !this._whole && items.length > MOST_SHOWN;
    setText(this.more.lastElementChild ?? this.more, `Show all ${figure(items.length)}`);
    setShown(this.more, cut);
    setShown(/** @type {HTMLElement} */ (this._list.parent), items.length > 0);
    if (cut || items.length <= MOST_SHOWN) {
      forgetFrame(this._add);
      this._list.show(cut ? first() : items);
    } else {
      this._showPart();
    }
  }

  _expand() {
    const { parent } = this._list;
    this._whole = true;
    this.show(this._items);
    parent.setAttribute("tabindex", "-1");
    /** @type {HTMLElement} */ (parent).focus({ preventScroll: true });
  }

  _showPart() {
    this._list.show(this._items.slice(0, this._most));
    if (this._most < this._items.length) {
      nextFrame(this._add);
    }
  }

  _addPart() {
    this._most += PART;
    this._showPart();
  }
}
