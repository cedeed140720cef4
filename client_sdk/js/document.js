/**
 * Documents: canonical JSON, revision, merge patch.
 *
 * Documents come from JSON, so a name in them may be any text, `__proto__` too: names are only ever own properties.
 */

/** @typedef {Readonly<Record<string, any>>} Data A document, or a merge patch: a JSON object. */

/**
 * Canonical JSON (RFC 8785) of what was read from JSON: whoever read it has seen to it that no text holds halves of
 * characters.
 * @param {unknown} value
 * @returns {string}
 * @throws {TypeError} it is something that JSON can not hold: NaN, infinities, other types
 */
export function canonical(value) {
  if (Array.isArray(value)) {
    return `[${value.map(canonical).join(",")}]`;
  }
  if (isObject(value)) {
    // RFC 8785 §3.2.3: names sort as UTF-16 code units.
    const names = Object.keys(value).sort();
    return `{${names.map((name) => `${scalar(name)}:${canonical(value[name])}`).join(",")}}`;
  }
  return scalar(value);
}

/** @param {unknown} value */
function scalar(value) {
  if (typeof value === "number" && !Number.isFinite(value)) {
    throw new TypeError("NaN and infinities are no JSON values");
  }
  if (value !== null && !["string", "number", "boolean"].includes(typeof value)) {
    throw new TypeError(`${typeof value} is no JSON value`);
  }
  return JSON.stringify(value); // numbers too: RFC 8785 §3.2.2.3 is how ECMAScript writes them
}

/**
 * The entity tag of a document: the first 16 hexadecimal digits of SHA-256 over its canonical JSON.
 * @param {string} canonicalJson
 * @param {import("./environment.js").Digests} subtle
 * @returns {Promise<string>}
 */
export async function revision(canonicalJson, subtle) {
  const digest = await subtle.digest("SHA-256", new TextEncoder().encode(canonicalJson));
  const bytes = [...new Uint8Array(digest, 0, 8)];
  return bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * The document after a merge patch (RFC 7396 §2); it shares its unchanged parts with `document`, which stays.
 * @param {Data} document
 * @param {Data} patch
 * @returns {Data}
 */
export function apply(document, patch) {
  const result = { ...document };
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) {
      delete result[name];
    } else if (isObject(value)) {
      const held = valueOf(result, name);
      put(result, name, apply(isObject(held) ? held : {}, value));
    } else {
      put(result, name, value);
    }
  }
  return result;
}

/**
 * The merge patch (RFC 7396) that leads from one document to another; empty when they are equal. Documents hold no
 * null.
 * @param {Data} before
 * @param {Data} after
 * @returns {Data}
 */
export function diff(before, after) {
  /** @type {Record<string, unknown>} */
  const patch = {};
  for (const name of Object.keys(before)) {
    if (!Object.hasOwn(after, name)) {
      put(patch, name, null);
    }
  }
  for (const [name, value] of Object.entries(after)) {
    const held = valueOf(before, name);
    if (isObject(value) && isObject(held)) {
      const inner = diff(held, value);
      if (Object.keys(inner).length > 0) {
        put(patch, name, inner);
      }
    } else if (!isSame(held, value)) {
      put(patch, name, value);
    }
  }
  return patch;
}

/**
 * @param {unknown} one
 * @param {unknown} other
 * @returns {boolean}
 */
function isSame(one, other) {
  if (Array.isArray(one) && Array.isArray(other)) {
    return one.length === other.length && one.every((value, index) => isSame(value, other[index]));
  }
  if (isObject(one) && isObject(other)) {
    const names = Object.keys(one);
    return (
      names.length === Object.keys(other).length &&
      names.every((name) => Object.hasOwn(other, name) && isSame(one[name], other[name]))
    );
  }
  return one === other;
}

/**
 * @param {unknown} value
 * @returns {value is Data}
 */
function isObject(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

/**
 * What an object holds itself under this name; `constructor` is not inherited.
 * @param {Data} object
 * @param {string} name
 * @returns {unknown}
 */
export function valueOf(object, name) {
  return Object.hasOwn(object, name) ? object[name] : undefined;
}

/**
 * Set a property of the object's own; an assignment to `__proto__` would replace what it inherits from.
 * @param {Record<string, unknown>} object
 * @param {string} name
 * @param {unknown} value
 */
function put(object, name, value) {
  if (name === "__proto__") {
    Object.defineProperty(object, name, { value, writable: true, enumerable: true, configurable: true });
  } else {
    object[name] = value;
  }
}

/** What holds nothing, and inherits nothing. */
export const NONE = Object.freeze(Object.create(null));

/**
 * The first one if it holds just the same things as the second one, else a copy of that, which inherits nothing.
 * @template T
 * @param {Readonly<Record<string, T>>} known
 * @param {Readonly<Record<string, T>>} now
 * @returns {Readonly<Record<string, T>>}
 */
export function sameOr(known, now) {
  const names = Object.keys(now);
  const isSame = Object.keys(known).length === names.length && names.every((name) => known[name] === now[name]);
  return isSame ? known : Object.freeze(Object.assign(Object.create(null), now));
}
