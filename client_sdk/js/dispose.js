/** What ends with the block that it was made in. */

/**
 * The name of the method that `await using` calls at the end of a block. Where there is no such thing yet, compilers
 * bring it under this name.
 * @type {typeof Symbol.asyncDispose}
 */
export const asyncDispose = Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose");
