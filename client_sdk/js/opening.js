/** Opening a channel, which may take too long. */

import { Disconnected } from "./errors.js";

/** @typedef {import("./runner.js").Runner} Runner */

/**
 * Start a runner, and wait until every watched document is there. Whatever goes wrong ends it.
 * @param {Runner} runner
 * @param {number} timeoutMs infinite: wait for as long as it takes
 * @returns {Promise<void>}
 */
export async function opened(runner, timeoutMs) {
  if (runner.opened !== null) {
    throw new Error("a channel is opened once");
  }
  if (runner.ended) {
    throw new Disconnected("The channel is closed.", { code: "closed" });
  }
  const starting = runner.start();
  let isLate = false;
  const stopWaiting = runner.callAt(runner.now() + timeoutMs, () => {
    isLate = true;
    void runner.stop();
  });
  try {
    await starting;
  } catch (error) {
    await runner.stop();
    throw isLate ? late(runner, timeoutMs) : error;
  } finally {
    stopWaiting();
  }
}

/**
 * @param {Runner} runner
 * @param {number} timeoutMs
 */
function late({ trouble }, timeoutMs) {
  const why = trouble === null ? "" : ` ${trouble.message}`;
  return new Disconnected(`No session within ${timeoutMs} ms.${why}`, { cause: trouble ?? undefined });
}
