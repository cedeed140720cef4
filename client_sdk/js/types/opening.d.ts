/** @typedef {import("./runner.js").Runner} Runner */
/**
 * Start a runner, and wait until every watched document is there. Whatever goes wrong ends it.
 * @param {Runner} runner
 * @param {number} timeoutMs infinite: wait for as long as it takes
 * @returns {Promise<void>}
 */
export function opened(runner: Runner, timeoutMs: number): Promise<void>;
export type Runner = import("./runner.js").Runner;
