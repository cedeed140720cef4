/** Several quotas side by side. */

import { h, KeyedList, setMark, setShown } from "../dom.js";
import { forgetFrame, nextFrame } from "../frame.js";
import { emptyState } from "./layout.js";
import { FIRST_SHOWN, PartedList } from "./parted.js";
import { inOrder, quotaView } from "./quota.js";

/** @typedef {import("./quota.js").Quota} Quota */
/** @typedef {[name: string, quota: Quota]} Named */
/** @typedef {{part: import("../dom.js").Part<Named>, redraw: () => void}} Tile */

/** How many are drawn again in one frame. */
const PART = 48;
const MANY = 200;
const RANKS = ["exhausted", "critical", "low"];

/**
 * @param {{test: (name: string) => string, usage?: import("../usage.js").UsageHistory, none: string,
 *   foot?: (name: string) => Element}} about `usage`: what was used while the page was open; `none`: what is said where
 *   there are no quotas; `foot`: what stands below each of them
 */
export function quotasView(about) {
  const place = h("div", { class: "quotas" });
  const none = emptyState("overview", "No quotas", about.none);
  /** @type {Map<string, Tile>} */
  const tiles = new Map();
  const list = new PartedList(
    new KeyedList(
      place,
      (/** @type {Named} */ [name]) => name,
      ([name]) => {
        const tile = tileOf(name, about);
        tiles.set(name, tile);
        return tile.part;
      },
    ),
  );
  const redraw = inParts(() => [...tiles.values()].filter(({ part }) => part.element.isConnected));
  return {
    element: h("div", { class: "quotas-all" }, place, none, list.more),
    /** @param {Record<string, Quota>} quotas */
    update(quotas) {
      const all = inOrder(quotas).map((name) => /** @type {Named} */ ([name, quotas[name]]));
      list.show(all, () => urgent(all));
      setMark(place, "data-many", all.length > MANY ? "" : null);
      setShown(none, all.length === 0);
    },
    /** Draws again what follows the clock. */
    redraw,
  };
}

/** Those that are shown of very many: what is about to end first. @param {Named[]} all */
function urgent(all) {
  const rank = (/** @type {Named} */ [, { level }]) => (RANKS.indexOf(level) + 1 || RANKS.length + 1);
  return [...all].sort((one, other) => rank(one) - rank(other)).slice(0, FIRST_SHOWN);
}

/**
 * @param {string} name
 * @param {Parameters<typeof quotasView>[0]} about
 * @returns {Tile}
 */
function tileOf(name, { test, usage, foot }) {
  const samples = usage === undefined ? null : () => usage.of(name);
  const { element, update } = quotaView(name, { test: test(name), samples });
  foot && element.append(foot(name));
  /** @type {Quota | null} */
  let shown = null;
  const part = {
    element,
    /** What is the same object has not changed. @param {Named} named */
    update([, quota]) {
      if (quota !== shown) {
        shown = quota;
        update(quota);
      }
    },
  };
  return { part, redraw: () => shown && update(shown) };
}

/**
 * Draws all tiles again, some in each frame.
 *
 * @param {() => Tile[]} tiles
 */
function inParts(tiles) {
  /** @type {Tile[]} */
  let left = [];
  const draw = () => {
    left.splice(0, PART).forEach(({ redraw }) => redraw());
    left.length > 0 && nextFrame(draw);
  };
  return () => {
    forgetFrame(draw);
    left = tiles();
    draw();
  };
}
