/**
 * How many of the entries fit.
 * @param {readonly string[]} entries
 * @param {number} budget bytes
 * @returns {number}
 */
export function fitting(entries: readonly string[], budget: number): number;
/** Which documents the application wants, and how they are named to the gateway. */
/** The alias of the own document. */
export const SELF: "self";
/** @typedef {import("./replica.js").Replica} Replica */
/** The documents that are wanted, in the order in which they were, and what of them was asked for at connecting. */
export class Wishes {
    /**
     * @param {Iterable<string>} watch
     * @param {Replica} replica what is held
     */
    constructor(watch: Iterable<string>, replica: Replica);
    /**
     * Who this is; null before it is known.
     * @type {string | null}
     */
    principal: string | null;
    /**
     * Whether this document is wanted, by the name that it goes by now.
     * @param {string} doc
     * @returns {boolean}
     */
    has(doc: string): boolean;
    /** @param {Iterable<string>} docs */
    add(docs: Iterable<string>): void;
    /** @param {string} doc */
    remove(doc: string): void;
    /**
     * The canonical name of a document; `self` is an alias.
     * @param {string} name
     * @returns {string}
     */
    resolve(name: string): string;
    /**
     * The canonical names of documents, each once.
     * @param {Iterable<string>} names
     * @returns {string[]}
     */
    resolveAll(names: Iterable<string>): string[];
    /**
     * What to watch at connecting, `DOC` or `DOC@REV`, in at most `budget` bytes; the rest is asked for when live.
     * @param {number} budget
     * @returns {string[]}
     */
    entries(budget: number): string[];
    /**
     * It is known who this is.
     * @param {string} principal
     * @returns {{unasked: string[], unwanted: string[]}} what is wanted and was not asked for, and the other way round
     */
    begin(principal: string): {
        unasked: string[];
        unwanted: string[];
    };
    /**
     * How a document is named to the gateway, with the revision that is held.
     * @param {string} name
     * @returns {string}
     */
    entry(name: string): string;
    [Symbol.iterator](): SetIterator<string>;
    #private;
}
export type Replica = import("./replica.js").Replica;
