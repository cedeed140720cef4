/**
 * What the channel holds, as pages use it: whoever subscribed is called at most once a frame, with the newest state.
 */

import { forgetFrame, nextFrame } from "./frame.js";
import { UsageHistory } from "./usage.js";

/** @typedef {import("/sdk/gateway.js").Channel} Channel */

/** A document that was only just asked for is on its way, and nothing to worry about. */
const STALE_AFTER_MS = 1000;

export class Live {
  /** @param {Channel} channel */
  constructor(channel) {
    /** @type {Channel} */
    this._channel = channel;
    this._end = new AbortController();
    /** What was used of each quota while this page was open. */
    this.usage = new UsageHistory();
    this._listen("change", (change) => {
      if (change.doc === channel.principal) {
        this.usage.note(channel.document.quotas ?? {}, Date.now());
      }
    });
  }

  /**
   * Calls `render` now, if the document is there, and after each change, once a frame, until `signal` is aborted.
   *
   * @param {(data: any) => void} render gets the whole document; it is not to be changed
   * @param {AbortSignal} signal
   * @param {string} [doc] another document than the own one, which somebody has to watch
   */
  document(render, signal, doc) {
    const draw = () => {
      const data = doc === undefined ? this._channel.document : this._channel.documents[doc];
      if (data !== undefined && Object.keys(data).length > 0) {
        render(data);
      }
    };
    const changed = (/** @type {any} */ change) => {
      if (change.doc === (doc ?? this._channel.principal)) {
        nextFrame(draw);
      }
    };
    this._until(signal, this._listen("change", changed), draw);
    draw();
  }

  /**
   * Calls `render` now and whenever it changed how true everything is, until `signal` is aborted; what is `stale` is so
   * when it has been for a second.
   *
   * @param {(freshness: {state: string, ageS: number | null, reason: string}) => void} render
   * @param {AbortSignal} signal
   */
  freshness(render, signal) {
    let timer = 0;
    const draw = () => render(this._channel.freshness);
    const stop = this._listen("freshness", ({ state }) => {
      clearTimeout(timer);
      forgetFrame(draw);
      if (state === "stale") {
        timer = setTimeout(draw, STALE_AFTER_MS);
      } else {
        nextFrame(draw);
      }
    });
    const ended = () => {
      clearTimeout(timer);
      stop();
    };
    this._until(signal, ended, draw);
    draw();
  }

  /** Nothing is called any more. */
  end() {
    this._end.abort();
  }

  /** @param {"change" | "freshness"} what @param {(happening: any) => void} callback @returns {() => void} */
  _listen(what, callback) {
    const stop = this._channel.on(what, callback);
    this._end.signal.addEventListener("abort", stop, { once: true });
    return stop;
  }

  /** @param {AbortSignal} signal @param {() => void} stop @param {() => void} draw */
  _until(signal, stop, draw) {
    const ended = () => {
      stop();
      forgetFrame(draw);
    };
    signal.addEventListener("abort", ended, { once: true });
    this._end.signal.addEventListener("abort", ended, { once: true });
  }
}
