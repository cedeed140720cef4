/** Work that is done once a frame, however often it was asked for. */

/** @type {Set<() => void>} */
const waiting = new Set();
let asked = false;

/**
 * Calls `render` in the next frame; asked for again before, it is still called once.
 *
 * @param {() => void} render
 */
export function nextFrame(render) {
  waiting.add(render);
  if (!asked) {
    asked = true;
    requestAnimationFrame(drawn);
  }
}

/**
 * Takes back what waits.
 *
 * @param {() => void} render
 */
export function forgetFrame(render) {
  waiting.delete(render);
}

function drawn() {
  asked = false;
  const now = [...waiting];
  waiting.clear();
  for (const render of now) {
    try {
      render();
    } catch (error) {
      reportError(error);
    }
  }
}

/**
 * Calls `beat` every `everyMs` until `signal` is aborted, and not while nobody looks.
 *
 * @param {() => void} beat
 * @param {number} everyMs
 * @param {AbortSignal} signal
 */
export function eachWhileSeen(beat, everyMs, signal) {
  const timer = setInterval(() => {
    if (document.visibilityState === "visible") {
      beat();
    }
  }, everyMs);
  signal.addEventListener("abort", () => clearInterval(timer), { once: true });
}
