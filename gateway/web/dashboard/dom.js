/**
 * Building and changing the page. Text only ever becomes text nodes and attributes, never markup.
 *
 * For tests, `data-test` stands on:
 * - signing in: `sign-in` `sign-in-name` `sign-in-password` `sign-in-submit` `sign-in-reason`
 * - around the pages: `freshness` (with `data-state`), `theme`, `user-menu`, `sign-out`, `announcer`, `toast`
 * - everywhere: `problem` (what went wrong), `retry`, `reload`, `confirm`, `cancel`, `show-all`
 * - overview: `identity` `identity-name` `identity-plan`, `quota-NAME` (with `data-level`; in it `data-part="bar"` and
 *   `data-part="figure"`), `permission-NAME` (with `data-held`: `held`, `gained`, `lost`)
 * - security: `session-ID` `sign-out-everywhere`, `token-ID` `new-token` `new-token-form` `new-token-name`
 *   `new-token-ends` `new-token-narrow` `new-token-submit` `new-token-secret` `new-token-done`
 * - organizations: `organization-ID` `pool-ID-NAME` `member-ID` `leave` `add-member` `add-member-user`
 *   `add-member-role` `add-member-submit`
 * - account: `account-form` `account-name` `account-email` `account-timezone` `account-save`, `password-form`
 *   `password-old` `password-new` `password-again` `password-save`
 */

/** @typedef {Node | string | number | null | undefined | false | readonly any[]} Child  lists are of such too */
/** @typedef {Record<string, any>} Attributes */

const SVG = "http://www.w3.org/2000/svg";
const PROPERTIES = new Set([
  "value",
  "checked",
  "disabled",
  "selected",
  "indeterminate",
  "open",
  "required",
  "readOnly",
]);

/**
 * Makes an element. `on…` are listeners, `style` a map of properties, `test` is `data-test`; an attribute that is
 * `false`, `null` or `undefined` is left out, `true` is an empty one.
 *
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Attributes | null} [attributes]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    setAttribute(element, name, value);
  }
  append(element, children);
  return element;
}

/**
 * Makes an element of SVG.
 *
 * @template {keyof SVGElementTagNameMap} T
 * @param {T} tag
 * @param {Attributes | null} [attributes]
 * @param {...Child} children
 * @returns {SVGElementTagNameMap[T]}
 */
export function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, String(value));
    }
  }
  append(element, children);
  return element;
}

/**
 * @param {HTMLElement} element
 * @param {string} name
 * @param {any} value
 */
function setAttribute(element, name, value) {
  if (name.startsWith("on") && typeof value === "function") {
    element.addEventListener(name.slice(2), value);
  } else if (value === null || value === undefined) {
    return;
  } else if (name === "style") {
    Object.entries(value).forEach(([property, setting]) => element.style.setProperty(property, String(setting)));
  } else if (PROPERTIES.has(name)) {
    Object.assign(element, { [name]: value });
  } else if (value !== false) {
    setPlainAttribute(element, name === "test" ? "data-test" : name, value === true ? "" : String(value));
  }
}

/**
 * @param {HTMLElement} element
 * @param {string} name
 * @param {string} value
 */
function setPlainAttribute(element, name, value) {
  if (name.startsWith("on")) {
    throw new TypeError(`${name} has to be a function.`);
  }
  if (name === "href" && !/^[#/]/.test(value)) {
    throw new TypeError("Links lead to places of this site alone.");
  }
  element.setAttribute(name, value);
}

/**
 * Appends what is there of `children`.
 *
 * @param {Node} parent
 * @param {Child[]} children
 */
export function append(parent, children) {
  for (const child of children) {
    if (Array.isArray(child)) {
      append(parent, child);
    } else if (child instanceof Node) {
      parent.appendChild(child);
    } else if (child !== null && child !== undefined && child !== false) {
      parent.appendChild(document.createTextNode(String(child)));
    }
  }
}

/**
 * Puts `children` in the place of what an element has.
 *
 * @param {Element} parent
 * @param {...Child} children
 */
export function replace(parent, ...children) {
  parent.replaceChildren();
  append(parent, children);
}

/**
 * Sets an element's text if it is another one.
 *
 * @param {Element} element
 * @param {string | number} text
 */
export function setText(element, text) {
  const wanted = String(text);
  if (element.textContent !== wanted) {
    element.textContent = wanted;
  }
}

/**
 * Sets a data attribute or an ARIA attribute if it is another one; `null` removes it.
 *
 * @param {Element} element
 * @param {string} name
 * @param {string | number | boolean | null} value
 */
export function setMark(element, name, value) {
  if (value === null) {
    if (element.hasAttribute(name)) {
      element.removeAttribute(name);
    }
  } else if (element.getAttribute(name) !== String(value)) {
    element.setAttribute(name, String(value));
  }
}

/**
 * Sets a property of an element's style if it is another one.
 *
 * @param {HTMLElement | SVGElement} element
 * @param {string} property
 * @param {string} value
 */
export function setStyle(element, property, value) {
  if (element.style.getPropertyValue(property) !== value) {
    element.style.setProperty(property, value);
  }
}

/**
 * Shows or hides an element.
 *
 * @param {HTMLElement} element
 * @param {boolean} shown
 */
export function setShown(element, shown) {
  if (element.hidden === shown) {
    element.hidden = !shown;
  }
}

/**
 * @template Item
 * @typedef {{element: Element, update: (item: Item) => void}} Part  What is shown of an item, and how it changes
 */

/**
 * Keeps the children of `parent` in step with `items`: one part for each key, made once, updated after, moved only when
 * the order changed.
 *
 * @template Item
 */
export class KeyedList {
  /**
   * @param {Element} parent
   * @param {(item: Item) => string} key
   * @param {(item: Item) => Part<Item>} make
   */
  constructor(parent, key, make) {
    this.parent = parent;
    this._key = key;
    this._make = make;
    /** @type {Map<string, Part<Item>>} */
    this._parts = new Map();
  }

  /** @param {Iterable<Item>} items */
  show(items) {
    const left = new Set(this._parts.keys());
    let place = this.parent.firstElementChild;
    for (const item of items) {
      const key = this._key(item);
      const part = this._parts.get(key) ?? this._make(item);
      this._parts.set(key, part);
      left.delete(key);
      part.update(item);
      if (part.element === place) {
        place = place.nextElementSibling;
      } else {
        this.parent.insertBefore(part.element, place);
      }
    }
    for (const key of left) {
      this._parts.get(key)?.element.remove();
      this._parts.delete(key);
    }
  }

  /** How many parts there are. */
  get size() {
    return this._parts.size;
  }
}

let ids = 0;

/**
 * An id that no other element of the page has.
 *
 * @param {string} what
 */
export function freshId(what) {
  ids += 1;
  return `${what}-${ids}`;
}
