/** Which documents the application wants, and how they are named to the gateway. */

/** The alias of the own document. */
export const SELF = "self";
// What a watch entry takes in a frame besides its characters.
const ENTRY_OVERHEAD = 8;

/** @typedef {import("./replica.js").Replica} Replica */

/** The documents that are wanted, in the order in which they were, and what of them was asked for at connecting. */
export class Wishes {
  /** @type {Set<string>} */
  #docs;
  /** @type {string[]} */
  #asked = [];
  #replica;

  /**
   * @param {Iterable<string>} watch
   * @param {Replica} replica what is held
   */
  constructor(watch, replica) {
    this.#docs = new Set(watch);
    this.#replica = replica;
    /**
     * Who this is; null before it is known.
     * @type {string | null}
     */
    this.principal = null;
  }

  [Symbol.iterator]() {
    return this.#docs.values();
  }

  /**
   * Whether this document is wanted, by the name that it goes by now.
   * @param {string} doc
   * @returns {boolean}
   */
  has(doc) {
    return this.#docs.has(doc);
  }

  /** @param {Iterable<string>} docs */
  add(docs) {
    for (const doc of docs) {
      this.#docs.add(doc);
    }
  }

  /** @param {string} doc */
  remove(doc) {
    this.#docs.delete(doc);
  }

  /**
   * The canonical name of a document; `self` is an alias.
   * @param {string} name
   * @returns {string}
   */
  resolve(name) {
    return name === SELF && this.principal !== null ? this.principal : name;
  }

  /**
   * The canonical names of documents, each once.
   * @param {Iterable<string>} names
   * @returns {string[]}
   */
  resolveAll(names) {
    return [...new Set([...names].map((name) => this.resolve(name)))];
  }

  /**
   * What to watch at connecting, `DOC` or `DOC@REV`, in at most `budget` bytes; the rest is asked for when live.
   * @param {number} budget
   * @returns {string[]}
   */
  entries(budget) {
    const entries = [...this.#docs].map((doc) => this.entry(doc));
    const taken = fitting(entries, budget);
    this.#asked = [...this.#docs].slice(0, taken);
    return entries.slice(0, taken);
  }

  /**
   * It is known who this is.
   * @param {string} principal
   * @returns {{unasked: string[], unwanted: string[]}} what is wanted and was not asked for, and the other way round
   */
  begin(principal) {
    this.principal = principal;
    const wanted = this.resolveAll(this.#docs);
    const asked = new Set(this.resolveAll(this.#asked));
    this.#docs = new Set(wanted);
    return {
      unasked: wanted.filter((doc) => !asked.has(doc)),
      unwanted: [...asked].filter((doc) => !this.#docs.has(doc)).sort(),
    };
  }

  /**
   * How a document is named to the gateway, with the revision that is held.
   * @param {string} name
   * @returns {string}
   */
  entry(name) {
    const doc = this.resolve(name);
    const rev = this.#replica.get(doc)?.rev ?? null;
    const alias = doc === this.principal ? SELF : doc;
    return rev === null ? alias : `${alias}@${rev}`;
  }
}

/**
 * How many of the entries fit.
 * @param {readonly string[]} entries
 * @param {number} budget bytes
 * @returns {number}
 */
export function fitting(entries, budget) {
  const encoder = new TextEncoder();
  let size = 0;
  const beyond = entries.findIndex((entry) => (size += encoder.encode(entry).length + ENTRY_OVERHEAD) > budget);
  return beyond === -1 ? entries.length : beyond;
}
