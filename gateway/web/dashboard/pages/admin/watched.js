/** Documents of others, watched while a page shows them. */

/** @typedef {import("../../app.js").Context} Context */

/**
 * Watches a document until the page is left. The own one is watched all the time, and stays so.
 *
 * @param {Context} context
 * @param {string} doc
 * @param {(error: {code: string, message: string}) => void} refused
 */
export function watchDocument({ channel, signal }, doc, refused) {
  if (doc === channel.principal) {
    return;
  }
  // Without a connection it is watched with the next one.
  const failed = (/** @type {any} */ error) => signal.aborted || error?.code === "disconnected" || refused(error);
  channel.watch([doc]).catch(failed);
  signal.addEventListener("abort", () => void channel.unwatch([doc]).catch(() => {}), { once: true });
}

const RIGHTS_EVERY_MS = 1000;

/**
 * Calls `act` when a document changed: at once and then at most once a second; once in `everyMs` where only use
 * changed it.
 *
 * @param {Context} context
 * @param {string} doc
 * @param {AbortSignal} signal
 * @param {() => void} act
 * @param {number} [everyMs]
 */
export function onceChanged({ channel }, doc, signal, act, everyMs = 1000) {
  let timer = 0;
  let last = -Infinity;
  const run = () => {
    timer = 0;
    last = performance.now();
    act();
  };
  let due = Infinity;
  const stop = channel.on("change", (change) => {
    if (change.doc !== doc) {
      return;
    }
    const use = change.causes.every((cause) => cause === "quota_usage");
    const wanted = Math.max(performance.now(), last + (use ? everyMs : Math.min(everyMs, RIGHTS_EVERY_MS)));
    if (timer === 0 || wanted < due) {
      clearTimeout(timer);
      due = wanted;
      timer = setTimeout(run, wanted - performance.now());
    }
  });
  const end = () => {
    clearTimeout(timer);
    stop();
  };
  signal.addEventListener("abort", end, { once: true });
}
