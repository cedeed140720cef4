/**
 * Remember the runner of a channel.
 * @param {object} channel
 * @param {Runner} runner
 */
export function drives(channel: object, runner: Runner): void;
/**
 * The runner of a channel.
 * @param {object} channel
 * @returns {Runner}
 * @throws {TypeError} it is no channel
 */
export function runnerOf(channel: object): Runner;
export type Runner = import("./runner.js").Runner;
