/** The badge that says how true everything is that the page shows. */

import { h, setMark, setText } from "../dom.js";
import { eachWhileSeen } from "../frame.js";
import { duration } from "../format.js";
import { announce } from "./toast.js";

const WORDS = /** @type {Record<string, string>} */ ({ live: "Live", stale: "Stale", offline: "Offline" });
const WHY = /** @type {Record<string, string>} */ ({
  connecting: "Connecting to the gateway.",
  store: "The gateway can not read its database: what you see was true then.",
  replaced: "Too many tabs or programs are connected as you. This page connects again while it is looked at.",
  silence: "Nothing was heard from the gateway for a while; it is being asked.",
  unverified: "What came does not match its revision; it is asked for again.",
  document: "Something that is shown here is on its way, or can not be built.",
});
const LIVE = "Connected: everything here is true now.";
const OFFLINE = "Not connected: what you see was true then. It connects again by itself.";

/**
 * @param {import("../live.js").Live} live
 * @param {AbortSignal} signal
 */
export function freshnessBadge(live, signal) {
  const text = h("span", { class: "badge-text" });
  const element = h("div", { class: "badge", test: "freshness" }, h("span", { class: "badge-dot" }), text);
  let state = "";
  let freshness = { state: "offline", ageS: /** @type {number | null} */ (null), reason: "connecting" };
  let at = performance.now();
  const draw = () => {
    const age = freshness.ageS === null ? null : freshness.ageS + (performance.now() - at) / 1000;
    const connecting = freshness.reason === "connecting" && age === null;
    const since = freshness.state === "live" || age === null ? "" : ` · ${duration(age)}`;
    const crowded = freshness.state === "offline" && freshness.reason === "replaced";
    setText(text, connecting ? "Connecting" : crowded ? "Too many tabs" : WORDS[freshness.state] + since);
  };
  live.freshness((now) => {
    freshness = now;
    at = performance.now();
    const why = now.state === "live" ? LIVE : (WHY[now.reason] ?? OFFLINE);
    setMark(element, "data-state", now.state);
    setMark(element, "title", why);
    if (state !== "" && state !== now.state) {
      announce(now.state === "live" ? "Live again." : `${WORDS[now.state]}. ${why}`);
    }
    state = now.state;
    draw();
  }, signal);
  eachWhileSeen(draw, 1000, signal);
  return element;
}
