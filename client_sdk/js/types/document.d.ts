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
export function canonical(value: unknown): string;
/**
 * The entity tag of a document: the first 16 hexadecimal digits of SHA-256 over its canonical JSON.
 * @param {string} canonicalJson
 * @param {import("./environment.js").Digests} subtle
 * @returns {Promise<string>}
 */
export function revision(canonicalJson: string, subtle: import("./environment.js").Digests): Promise<string>;
/**
 * The document after a merge patch (RFC 7396 §2); it shares its unchanged parts with `document`, which stays.
 * @param {Data} document
 * @param {Data} patch
 * @returns {Data}
 */
export function apply(document: Data, patch: Data): Data;
/**
 * The merge patch (RFC 7396) that leads from one document to another; empty when they are equal. Documents hold no
 * null.
 * @param {Data} before
 * @param {Data} after
 * @returns {Data}
 */
export function diff(before: Data, after: Data): Data;
/**
 * What an object holds itself under this name; `constructor` is not inherited.
 * @param {Data} object
 * @param {string} name
 * @returns {unknown}
 */
export function valueOf(object: Data, name: string): unknown;
/**
 * The first one if it holds just the same things as the second one, else a copy of that, which inherits nothing.
 * @template T
 * @param {Readonly<Record<string, T>>} known
 * @param {Readonly<Record<string, T>>} now
 * @returns {Readonly<Record<string, T>>}
 */
export function sameOr<T>(known: Readonly<Record<string, T>>, now: Readonly<Record<string, T>>): Readonly<Record<string, T>>;
/** What holds nothing, and inherits nothing. */
export const NONE: any;
/**
 * A document, or a merge patch: a JSON object.
 */
export type Data = Readonly<Record<string, any>>;
