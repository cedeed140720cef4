/** The node at work: its figures, every two seconds while somebody looks. */

import { h, replace, setMark, setShown, setText } from "../../dom.js";
import { inWords } from "../../api.js";
import { figure } from "../../format.js";
import { eachWhileSeen } from "../../frame.js";
import { histogram, parseExposition, quantile, total, totals } from "../../exposition.js";
import { LineChart } from "../../components/chart.js";
import { failure } from "../../components/loading.js";
import { card, page, pill, terms } from "../../components/layout.js";

/** @typedef {import("../../exposition.js").Exposition} Exposition */
/** @typedef {{at: number, told: Exposition}} Scrape */
/** @typedef {import("../../components/chart.js").Sample} Sample */

const EVERY_MS = 2000;
const SPAN_MS = 300_000;
/** Samples further apart than this have nothing drawn between them: nobody looked. */
const GAP_MS = 12_000;
/** Over how much time quantiles are worked out. */
const WINDOW_MS = 10_000;
const MOST_CODES = 5;
const PUSH = "gateway_commit_to_send_seconds";
const LEAD = "What the process that answers you does, and those that share its port: every two seconds while you look.";
const OWN_ROUTE = "/admin/metrics";

/** @param {import("../../app.js").Context} context */
export function mount({ api, signal }) {
  const charts = CHARTS.map(({ work, ...about }) => shown(new LineChart({ ...about, spanMs: SPAN_MS }, signal), work));
  const now = h("div", null);
  const figures = figuresOf();
  const problem = h("div", { hidden: true });
  /** @type {Scrape[]} */
  let scrapes = [];
  const show = (/** @type {Exposition} */ told) => {
    const at = Date.now();
    scrapes = [...scrapes, { at, told }].filter((scrape) => at - scrape.at <= SPAN_MS + WINDOW_MS);
    setShown(problem, false);
    if (now.childElementCount === 0) {
      now.append(terms(figures.map(({ title, element }) => [title, element])));
    }
    figures.forEach(({ update }) => update(told));
    charts.forEach((chart) => chart.update(scrapes));
  };
  let asking = false;
  const ask = async () => {
    if (asking) {
      return;
    }
    asking = true;
    try {
      show(parseExposition(await api.get("/admin/metrics", { signal, text: true })));
    } catch (error) {
      const retry = () => void ask();
      replace(problem, failure(inWords(error), retry));
      setShown(problem, true);
    } finally {
      asking = false;
    }
  };
  void ask();
  eachWhileSeen(() => void ask(), EVERY_MS, signal);
  const drawn = charts.map(({ element }) => element);
  return page("Node", { lead: LEAD }, problem, card("Now", {}, now), h("div", { class: "charts" }, drawn));
}

/** What is shown as plain figures. */
function figuresOf() {
  const most = (/** @type {Exposition} */ told, /** @type {string} */ name) =>
    Math.max(0, ...(told.get(name) ?? []).map(({ value }) => value));
  return [
    databaseFigure(),
    plainFigure("Nodes seen", (told) => most(told, "gateway_nodes")),
    plainFigure("Documents held", (told) => total(told, "gateway_documents")),
    plainFigure("Change log position", (told) => most(told, "gateway_feed_position")),
    plainFigure("Changes not published yet", (told) => total(told, "gateway_feed_lag")),
    plainFigure("Documents to be built", (told) => total(told, "gateway_feed_pending")),
  ];
}

/** @param {string} title @param {(told: Exposition) => number} read */
function plainFigure(title, read) {
  const element = h("span");
  return { title, element, update: (/** @type {Exposition} */ told) => setText(element, figure(read(told))) };
}

function databaseFigure() {
  const element = pill("");
  const update = (/** @type {Exposition} */ told) => {
    const stale = total(told, "gateway_store_stale") > 0;
    const stalled = total(told, "gateway_store_stalled") > 0;
    setText(element, stale ? "Can not be read" : stalled ? "Takes no writes" : "Read and written");
    setMark(element, "data-tone", stale || stalled ? "bad" : "good");
  };
  return { title: "Database", element, update };
}

/** @typedef {{element: HTMLElement, update: (scrapes: readonly Scrape[]) => void}} Shown */

/**
 * @typedef {Omit<import("../../components/chart.js").About, "spanMs"> & {work: Work}} ChartAbout
 * @typedef {(scrapes: readonly Scrape[]) => {names: string[], samples: Sample[]}} Work
 */

/** @type {ChartAbout[]} */
const CHARTS = [
  {
    title: "Connected",
    lead: "Channel sessions with a credential.",
    format: count,
    leastStep: 1,
    test: "chart-connected",
    work: connected,
  },
  {
    title: "Pushes a second",
    lead: "Snapshots and patches handed to sockets.",
    format: roundly,
    leastStep: 0.25,
    test: "chart-pushes",
    work: pushes,
  },
  {
    title: "Commit to send",
    lead: "From a commit to its frames at the sockets, over the last 10 s.",
    format: inMs,
    leastStep: 0.001,
    test: "chart-latency",
    work: latency,
  },
  {
    title: "HTTP requests a second",
    lead: "Answered, without those of this page.",
    format: roundly,
    leastStep: 0.25,
    test: "chart-http",
    work: requests,
  },
  {
    title: "Sessions ended a second",
    lead: "By the code of their end; “client”: the client went.",
    format: roundly,
    leastStep: 0.25,
    test: "chart-ended",
    work: ended,
  },
];

/**
 * @param {LineChart} chart
 * @param {Work} work
 * @returns {Shown}
 */
function shown(chart, work) {
  const update = (/** @type {readonly Scrape[]} */ scrapes) => {
    const { names, samples } = work(scrapes);
    chart.update(names, samples);
  };
  return { element: chart.element, update };
}

/** @param {readonly Scrape[]} scrapes */
function connected(scrapes) {
  const samples = scrapes.map(({ at, told }) => ({
    at,
    values: {
      Users: total(told, "gateway_sessions", ({ kind }) => kind === "user"),
      Instances: total(told, "gateway_sessions", ({ kind }) => kind === "instance"),
    },
  }));
  return { names: ["Users", "Instances"], samples: withGaps(samples) };
}

/** @param {readonly Scrape[]} scrapes */
function pushes(scrapes) {
  return {
    names: ["Pushes"],
    samples: rates(scrapes, (told) => ({ Pushes: total(told, "gateway_updates_sent_total") })),
  };
}

/** @param {readonly Scrape[]} scrapes */
function requests(scrapes) {
  const count = (/** @type {Exposition} */ told) =>
    total(told, "gateway_http_request_seconds_count", ({ route }) => route !== OWN_ROUTE);
  return { names: ["Requests"], samples: rates(scrapes, (told) => ({ Requests: count(told) })) };
}

/** The codes that ended most, the others together. @param {readonly Scrape[]} scrapes */
function ended(scrapes) {
  const all = scrapes.map(({ told }) => totals(told, "gateway_sessions_ended_total", "code"));
  const codes = [...(all.at(-1) ?? [])].sort(([, one], [, other]) => other - one).map(([code]) => code);
  const named = codes.slice(0, MOST_CODES);
  const names = codes.length > MOST_CODES ? [...named, "others"] : named.length > 0 ? named : ["ended"];
  const samples = rates(scrapes, (told) => {
    const sums = totals(told, "gateway_sessions_ended_total", "code");
    const rest = [...sums].filter(([code]) => !named.includes(code)).reduce((sum, [, count]) => sum + count, 0);
    const values = Object.fromEntries(named.map((code) => [code, sums.get(code) ?? 0]));
    return { ...values, [named.length > 0 ? "others" : "ended"]: rest };
  });
  return { names, samples };
}

/** @param {readonly Scrape[]} scrapes */
function latency(scrapes) {
  const told = scrapes.map(({ at, told }) => ({ at, counts: histogram(told, PUSH) }));
  let first = 0;
  const samples = told.map(({ at, counts }) => {
    while (at - told[first].at > WINDOW_MS) {
      first += 1;
    }
    const before = told[first].counts;
    return { at, values: { p50: quantile(0.5, before, counts), p99: quantile(0.99, before, counts) } };
  });
  return { names: ["p50", "p99"], samples: withGaps(samples.slice(1)) };
}

/**
 * How fast counters grew between one scrape and the next; unknown where they began anew.
 *
 * @param {readonly Scrape[]} scrapes
 * @param {(told: Exposition) => Record<string, number>} counters
 * @returns {Sample[]} a second
 */
function rates(scrapes, counters) {
  const counted = scrapes.map(({ at, told }) => ({ at, counts: counters(told) }));
  const samples = counted.slice(1).map(({ at, counts }, index) => {
    const before = counted[index];
    const seconds = (at - before.at) / 1000;
    const values = Object.entries(counts).map(([name, count]) => {
      const more = count - (before.counts[name] ?? 0);
      return /** @type {[string, number | null]} */ ([name, more < 0 || seconds <= 0 ? null : more / seconds]);
    });
    return { at, values: Object.fromEntries(values) };
  });
  return withGaps(samples);
}

/** Where nobody looked for a while the line is broken. @param {Sample[]} samples @returns {Sample[]} */
function withGaps(samples) {
  return samples.flatMap((sample, index) => {
    const before = samples[index - 1];
    const gap = before !== undefined && sample.at - before.at > GAP_MS;
    return gap ? [{ at: before.at + 1, values: {} }, sample] : [sample];
  });
}

/** @param {number} value */
function count(value) {
  return Number.isInteger(value) ? figure(value) : value.toFixed(2);
}

/** @param {number} value */
function roundly(value) {
  return value === 0 ? "0" : value < 10 ? String(Number(value.toFixed(2))) : figure(Math.round(value));
}

/** @param {number} seconds */
function inMs(seconds) {
  const ms = seconds * 1000;
  return ms >= 10_000
    ? `${Math.round(seconds)} s`
    : `${ms === 0 ? 0 : ms < 10 ? Number(ms.toFixed(2)) : Math.round(ms)} ms`;
}
