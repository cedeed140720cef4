/** A small line of how a figure moved. */

import { setMark, svg } from "../dom.js";

const WIDTH = 120;
const HEIGHT = 32;
const EDGE = 2;

/**
 * @param {string} label what it shows, for screen readers
 */
export function sparkline(label) {
  const area = svg("path", { class: "spark-area" });
  const line = svg("path", { class: "spark-line", "vector-effect": "non-scaling-stroke" });
  const element = svg(
    "svg",
    {
      class: "spark",
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": label,
    },
    area,
    line,
  );
  return {
    element,
    /**
     * @param {readonly {at: number, used: number}[]} samples the oldest first
     * @param {number} now milliseconds since 1970 UTC
     */
    update(samples, now) {
      setMark(element, "data-empty", samples.length < 2 ? "" : null);
      const path = pathOf(samples, now);
      setMark(line, "d", path);
      setMark(area, "d", `${path}V${HEIGHT}H0Z`);
    },
  };
}

/** @param {readonly {at: number, used: number}[]} samples @param {number} now */
function pathOf(samples, now) {
  const flat = `M0 ${HEIGHT - EDGE}H${WIDTH}`;
  if (samples.length < 2) {
    return flat;
  }
  const first = samples[0].at;
  const span = Math.max(now - first, 1);
  let least = Infinity;
  let most = -Infinity;
  for (const { used } of samples) {
    least = Math.min(least, used);
    most = Math.max(most, used);
  }
  const high = most - least || 1;
  const x = (/** @type {number} */ at) => round(((at - first) / span) * WIDTH);
  const y = (/** @type {number} */ used) => round(HEIGHT - EDGE - ((used - least) / high) * (HEIGHT - 2 * EDGE));
  const steps = samples.slice(1).map(({ at, used }) => `H${x(at)}V${y(used)}`);
  return `M0 ${y(samples[0].used)}${steps.join("")}H${WIDTH}`;
}

/** @param {number} value */
function round(value) {
  return Math.round(value * 10) / 10;
}
