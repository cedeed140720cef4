/** Which runner drives which channel: for what works beside a channel, and is none of its users' business. */

/** @typedef {import("./runner.js").Runner} Runner */

/** @type {WeakMap<object, Runner>} */
const RUNNERS = new WeakMap();

/**
 * Remember the runner of a channel.
 * @param {object} channel
 * @param {Runner} runner
 */
export function drives(channel, runner) {
  RUNNERS.set(channel, runner);
}

/**
 * The runner of a channel.
 * @param {object} channel
 * @returns {Runner}
 * @throws {TypeError} it is no channel
 */
export function runnerOf(channel) {
  const runner = RUNNERS.get(channel);
  if (runner === undefined) {
    throw new TypeError("this is no channel");
  }
  return runner;
}
