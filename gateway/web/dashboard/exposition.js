/** Prometheus' text format, as far as the gateway writes it, and what can be read out of two scrapes. */

/** @typedef {{labels: Record<string, string>, value: number}} Sample */
/** @typedef {Map<string, Sample[]>} Exposition  samples by the name of their metric */

const LINE = /^([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/**
 * @param {string} text
 * @returns {Exposition}
 */
export function parseExposition(text) {
  /** @type {Exposition} */
  const found = new Map();
  for (const line of text.split("\n")) {
    const match = line.startsWith("#") ? null : LINE.exec(line);
    if (match !== null) {
      const samples = found.get(match[1]) ?? [];
      samples.push({ labels: labelsOf(match[2] ?? ""), value: Number(match[3].replace("Inf", "Infinity")) });
      found.set(match[1], samples);
    }
  }
  return found;
}

/** @param {string} text */
function labelsOf(text) {
  /** @type {Record<string, string>} */
  const labels = {};
  for (const [, name, value] of text.matchAll(LABEL)) {
    labels[name] = value.replace(/\\(.)/g, (_, sign) => (sign === "n" ? "\n" : sign));
  }
  return labels;
}

/**
 * The sum of a metric's samples that are wanted.
 *
 * @param {Exposition} exposition
 * @param {string} name
 * @param {(labels: Record<string, string>) => boolean} [wanted]
 */
export function total(exposition, name, wanted = () => true) {
  return (exposition.get(name) ?? []).reduce((sum, { labels, value }) => (wanted(labels) ? sum + value : sum), 0);
}

/**
 * The sums of a metric by one of its labels.
 *
 * @param {Exposition} exposition
 * @param {string} name
 * @param {string} label
 * @returns {Map<string, number>}
 */
export function totals(exposition, name, label) {
  /** @type {Map<string, number>} */
  const sums = new Map();
  for (const { labels, value } of exposition.get(name) ?? []) {
    sums.set(labels[label], (sums.get(labels[label]) ?? 0) + value);
  }
  return sums;
}

/**
 * A histogram: how many were at most each bound, by bound, for all processes together.
 *
 * @param {Exposition} exposition
 * @param {string} name
 * @returns {Map<number, number>}
 */
export function histogram(exposition, name) {
  const bounds = [...totals(exposition, `${name}_bucket`, "le")];
  return new Map(bounds.map(([bound, count]) => [Number(bound.replace("Inf", "Infinity")), count]));
}

/**
 * A quantile of what a histogram counted between two moments, linear within a bucket as `histogram_quantile` of
 * Prometheus has it; `null`: nothing was counted, or the counters began anew.
 *
 * @param {number} q between 0 and 1
 * @param {Map<number, number>} before
 * @param {Map<number, number>} after
 * @returns {number | null} in the unit of the bounds
 */
export function quantile(q, before, after) {
  const bounds = [...after.keys()].sort((one, other) => one - other);
  const counts = bounds.map((bound) => (after.get(bound) ?? 0) - (before.get(bound) ?? 0));
  const all = counts.at(-1) ?? 0;
  if (all <= 0 || counts.some((count) => count < 0)) {
    return null;
  }
  const rank = q * all;
  const at = counts.findIndex((count) => count >= rank);
  const below = at === 0 ? 0 : counts[at - 1];
  const from = at === 0 ? 0 : bounds[at - 1];
  if (bounds[at] === Infinity) {
    return from;
  }
  return from + ((bounds[at] - from) * (rank - below)) / Math.max(counts[at] - below, 1e-9);
}
