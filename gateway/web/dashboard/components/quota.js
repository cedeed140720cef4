/** A quota: its bar, its figures, and how it moved while the page was open. */

import { h, setMark, setShown, setStyle, setText } from "../dom.js";
import { own } from "../own.js";
import { figure, fromNow, inEnglish, wholeMoment } from "../format.js";
import { sparkline } from "./sparkline.js";

/**
 * A quota as documents have it.
 *
 * @typedef {object} Quota
 * @property {number} used
 * @property {string} period
 * @property {string} level
 * @property {number} [limit] absent: unlimited
 * @property {number} [reserved]
 * @property {number} [remaining]
 * @property {boolean} [hard]
 * @property {string} [resets_at]
 * @property {number} [cap]
 * @property {number} [cap_remaining]
 */

/** @typedef {readonly {at: number, used: number}[]} Samples */

const LEAST_SEEN = 0.012;
const LONG = 100_000;
const LEVELS = /** @type {Record<string, string>} */ ({ low: "Low", critical: "Critical", exhausted: "Exhausted" });
const TONES = /** @type {Record<string, string>} */ ({ low: "warn", critical: "bad", exhausted: "bad" });
const PERIODS = /** @type {Record<string, string>} */ ({
  hour: "per hour",
  day: "per day",
  week: "per week",
  month: "per month",
  year: "per year",
  never: "in all",
});

/**
 * @param {string} name
 * @param {{test: string, samples?: (() => Samples) | null}} about `samples`: without them there is no line
 * @returns {import("../dom.js").Part<Quota>}
 */
export function quotaView(name, about) {
  const parts = quotaParts(name, about.samples != null);
  const element = h(
    "article",
    { class: "quota", test: about.test, "aria-label": inEnglish(name) },
    h("div", { class: "quota-head" }, h("h3", null, inEnglish(name)), parts.level),
    h("code", { class: "quota-name" }, name),
    h(
      "div",
      { class: "quota-figures" },
      h("p", { class: "quota-figure" }, parts.figure, parts.unit),
      parts.spark?.element,
    ),
    parts.bar,
    h("div", { class: "quota-foot" }, parts.detail, parts.resets),
    parts.share,
  );
  const update = (/** @type {Quota} */ quota) => {
    setMark(element, "data-long", (quota.limit ?? quota.used) >= LONG ? "" : null);
    setMark(element, "data-level", over(quota) > 0 ? "exhausted" : quota.level);
    showLevel(parts, quota);
    showFigures(parts, quota);
    showBar(parts, quota);
    showShare(parts, quota);
    parts.spark?.update(about.samples?.() ?? [], Date.now());
  };
  return { element, update };
}

/** @typedef {ReturnType<typeof quotaParts>} Parts */

/** @param {string} name @param {boolean} withLine */
function quotaParts(name, withLine) {
  const used = h("span", { class: "bar-used" });
  const reserved = h("span", { class: "bar-reserved" });
  const label = inEnglish(name);
  return {
    used,
    reserved,
    level: h("span", { class: "pill" }),
    figure: h("strong", { "data-part": "figure" }),
    unit: h("span"),
    bar: h("div", { class: "bar", "data-part": "bar", role: "meter", "aria-label": `${label}, used` }, used, reserved),
    detail: h("span", { class: "quota-detail" }),
    resets: h("time", { class: "quota-resets" }),
    share: h("p", { class: "quota-share", hidden: true }),
    spark: withLine ? sparkline(`${label}: use since this page was opened`) : null,
  };
}

/** How much a soft limit was passed by. @param {Quota} quota */
function over(quota) {
  return quota.limit === undefined ? 0 : Math.max(0, quota.used + (quota.reserved ?? 0) - quota.limit);
}

/** @param {Parts} parts @param {Quota} quota */
function showLevel({ level }, quota) {
  const beyond = over(quota);
  setText(level, beyond > 0 ? `${figure(beyond)} over` : (own(LEVELS, quota.level) ?? "OK"));
  setMark(level, "data-tone", beyond > 0 ? "bad" : (own(TONES, quota.level) ?? "good"));
  level.classList.toggle("pill-quiet", quota.level === "ok");
}

/** @param {Parts} parts @param {Quota} quota */
function showFigures({ figure: number, unit, detail, resets }, quota) {
  if (quota.limit === undefined) {
    setText(number, figure(quota.used));
    setText(unit, " used");
    setText(detail, "No limit");
  } else {
    setText(number, figure(quota.remaining ?? 0));
    setText(unit, ` of ${figure(quota.limit)} left`);
    const held = quota.reserved ? `, ${figure(quota.reserved)} reserved` : "";
    const soft = quota.hard === false ? " · soft limit" : "";
    setText(detail, `${figure(quota.used)} used${held}${soft}`);
  }
  const period = own(PERIODS, quota.period) ?? quota.period;
  setText(resets, quota.resets_at === undefined ? period : `resets ${fromNow(quota.resets_at)}`);
  setMark(resets, "datetime", quota.resets_at ?? null);
  setMark(resets, "title", quota.resets_at === undefined ? null : `${wholeMoment(quota.resets_at)} (${period})`);
}

/** @param {Parts} parts @param {Quota} quota */
function showBar({ bar, used, reserved }, quota) {
  const limit = quota.limit;
  setMark(bar, "data-unlimited", limit === undefined ? "" : null);
  const whole = Math.max(limit ?? 0, quota.used + (quota.reserved ?? 0), 1);
  const share = limit === 0 ? 1 : limit === undefined ? 0 : seen(quota.used / whole);
  setStyle(used, "transform", `scaleX(${share.toFixed(4)})`);
  setStyle(
    reserved,
    "transform",
    `translateX(${(share * 100).toFixed(2)}%) scaleX(${((quota.reserved ?? 0) / whole).toFixed(4)})`,
  );
  setMark(bar, "aria-valuemin", 0);
  setMark(bar, "aria-valuemax", limit === undefined ? Math.max(quota.used, 1) : whole);
  setMark(bar, "aria-valuenow", quota.used);
  const text =
    limit === undefined ? `${figure(quota.used)} used, no limit` : `${figure(quota.used)} of ${figure(limit)} used`;
  setMark(bar, "aria-valuetext", text);
}

/** A share of the bar, large enough to be seen if there is any. @param {number} share */
function seen(share) {
  return share > 0 ? Math.max(share, LEAST_SEEN) : 0;
}

/** @param {Parts} parts @param {Quota} quota */
function showShare({ share }, quota) {
  setShown(share, quota.cap !== undefined);
  if (quota.cap !== undefined) {
    setText(share, `Your share: ${figure(quota.cap_remaining ?? 0)} of ${figure(quota.cap)} left`);
  }
}

/**
 * The names of quotas in the order in which they are shown, which does not change with what is used.
 *
 * @param {Record<string, Quota>} quotas
 * @returns {string[]}
 */
export function inOrder(quotas) {
  return Object.keys(quotas).sort();
}
