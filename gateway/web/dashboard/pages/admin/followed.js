/** The change log, followed for what a page is about: of documents that people can not watch nothing else tells. */

const PAGE = 200;
const WAIT_S = 20;
const TIMEOUT_MS = 40_000;
/** After an answer: however much is written, a page reads it no more often. */
const PACE_MS = 1000;
const RETRY_MS = 3000;

/**
 * Calls `act` once it is known from where on the log is followed, and then whenever it tells of a document that
 * `concerns` the page, or may have without being read; not while nobody looks.
 *
 * @param {import("../../app.js").Context} context
 * @param {(doc: string) => boolean} concerns
 * @param {() => unknown} act
 */
export async function onceLogged({ api, signal }, concerns, act) {
  /** @type {number | null} */
  let after = null;
  while (!signal.aborted) {
    try {
      /** @type {Record<string, number>} */
      const query = after === null ? { limit: 1 } : { after, limit: PAGE, wait_s: WAIT_S };
      const answer = await api.get("/admin/changes", { query, signal, timeoutMs: TIMEOUT_MS });
      // Of a log that is too fast to be read the newest rows follow.
      const full = answer.items.length === PAGE;
      const lost = after === null || answer.missed || full;
      if (lost || answer.items.some((/** @type {{doc: string}} */ { doc }) => concerns(doc))) {
        act();
      }
      after = full || (await hidden(signal)) ? null : answer.next;
      await pause(PACE_MS);
    } catch {
      after = null;
      await pause(RETRY_MS);
    }
  }
}

/** Waits until somebody looks; whether nobody did. @param {AbortSignal} signal @returns {Promise<boolean>} */
function hidden(signal) {
  if (document.visibilityState === "visible") {
    return Promise.resolve(false);
  }
  return new Promise((done) => {
    const once = { once: true, signal };
    document.addEventListener("visibilitychange", () => done(true), once);
    signal.addEventListener("abort", () => done(true), { once: true });
  });
}

/** @param {number} ms @returns {Promise<void>} */
function pause(ms) {
  return new Promise((done) => setTimeout(done, ms));
}
