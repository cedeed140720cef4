/**
 * The names in order: `self`, `user:ID`, `org:ID`.
 * @param {string | Iterable<string>} docs
 * @returns {readonly string[]}
 * @throws {TypeError} there is none at all, or one is no text of 1 to 256 characters, holds halves of characters (lone
 *   surrogates: nothing can send them), or has a revision: which one is held is the channel's business
 */
export function documentNames(docs: string | Iterable<string>): readonly string[];
