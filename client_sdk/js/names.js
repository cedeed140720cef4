/** What a caller may name a document. */

const LONGEST = 256;
const HALF = /\p{Surrogate}/u; // has no UTF-8
const REVISION = /@[0-9a-f]{16}$/;

/**
 * The names in order: `self`, `user:ID`, `org:ID`.
 * @param {string | Iterable<string>} docs
 * @returns {readonly string[]}
 * @throws {TypeError} there is none at all, or one is no text of 1 to 256 characters, holds halves of characters (lone
 *   surrogates: nothing can send them), or has a revision: which one is held is the channel's business
 */
export function documentNames(docs) {
  if (typeof docs !== "string" && typeof docs?.[Symbol.iterator] !== "function") {
    throw new TypeError("documents are named by texts");
  }
  const names = typeof docs === "string" ? [docs] : [...docs];
  if (names.length === 0) {
    throw new TypeError("name at least one document");
  }
  for (const name of names) {
    if (typeof name !== "string" || name.length === 0 || [...name].length > LONGEST) {
      throw new TypeError(`the name of a document is a text of 1 to ${LONGEST} characters`);
    }
    if (HALF.test(name)) {
      throw new TypeError("the name of a document holds no halves of characters");
    }
    if (REVISION.test(name)) {
      throw new TypeError("name the document without a revision: the channel adds the one that it holds");
    }
  }
  return Object.freeze(names);
}
