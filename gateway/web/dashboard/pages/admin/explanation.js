/** Why somebody holds a permission or has a quota, in words. */

import { h } from "../../dom.js";
import { now } from "../../clock.js";
import { counted, figure, fromNow, moment, wholeMoment } from "../../format.js";
import { link } from "../../router.js";
import { icon } from "../../components/icon.js";

/** @typedef {import("../../dom.js").Child} Child */

const PERIODS = /** @type {Record<string, string>} */ ({
  hour: "an hour",
  day: "a day",
  week: "a week",
  month: "a month",
  year: "a year",
  never: "in all",
});

/** A moment in a sentence. @param {string} at RFC 3339 */
export function when(at) {
  return h("time", { datetime: at, title: wholeMoment(at) }, moment(at));
}

/** From when until when something holds. @param {any} row @returns {Child} */
export function dates({ starts_at: start = null, expires_at: end = null }) {
  return [start !== null && [" from ", when(start)], end !== null && [" until ", when(end)]];
}

/** A limit in words: "500 a month, hard". @param {{limit?: number | null, period: string, hard?: boolean}} quota */
export function limitWords({ limit, period, hard }) {
  if (limit === undefined || limit === null) {
    return `no limit, counted ${PERIODS[period] === "in all" ? "for good" : `by the ${period}`}`;
  }
  return `${figure(limit)} ${PERIODS[period] ?? period}${hard === false ? ", soft: it may be passed" : ""}`;
}

/**
 * @param {any} answer of `/api/explain` about a permission
 * @returns {Child}
 */
export function permissionExplained(answer) {
  const { permission, allowed, reasons, changes_at: changesAt } = answer;
  const nothing = reasons.length === 0 && "Nothing gives it, and nothing denies it.";
  return [
    verdict(
      allowed,
      allowed ? [h("code", null, permission), " is held."] : [h("code", null, permission), " is not held."],
    ),
    nothing && h("p", { class: "reason-none" }, nothing),
    reasonList(reasons, reasons.map(permissionReason)),
    changesAt !== null &&
      h(
        "p",
        { class: "hint" },
        "By the clock permissions change next ",
        fromNow(changesAt),
        ", on ",
        when(changesAt),
        ".",
      ),
  ];
}

/** @param {boolean} good @param {Child} text */
function verdict(good, text) {
  return h(
    "p",
    { class: "verdict", "data-good": good, test: "verdict" },
    icon(good ? "check" : "close"),
    h("span", null, text),
  );
}

/** @param {any} reason @param {number} _ @param {any[]} reasons @returns {Child} */
function permissionReason(reason, _, reasons) {
  return [
    sentenceOf(reason),
    reason.counts || ["plan", "role", "allow", "deny"].includes(reason.source) ? null : ".",
    whyNot(reason, reasons),
  ];
}

/** @param {any} reason @returns {Child} */
function sentenceOf(reason) {
  const name = h("code", null, reason.name);
  switch (reason.source) {
    case "status":
      return "The account is disabled, so it holds no permission at all.";
    case "plan":
      return ["The plan ", h("a", { href: link("admin", "plans", reason.name) }, name), " gives it."];
    case "role":
      return ["The role ", name, " gives it", dates(reason), "."];
    case "allow":
      return ["It is allowed for this user alone", dates(reason), "."];
    default:
      return ["It is denied for this user alone", dates(reason), ". A denial overrules whatever gives it."];
  }
}

/** Why a row decides nothing now. @param {any} reason @param {any[]} reasons @returns {Child} */
function whyNot(reason, reasons) {
  if (reason.counts) {
    return null;
  }
  const at = now();
  if (reason.starts_at && Date.parse(reason.starts_at) > at) {
    return " Not yet: it begins then.";
  }
  if (reason.expires_at && Date.parse(reason.expires_at) <= at) {
    return " That is over.";
  }
  if (reasons.some(({ source }) => source === "status")) {
    return " It does not count while the account is disabled.";
  }
  return reasons.some(({ source, counts }) => source === "deny" && counts)
    ? " The denial overrules it."
    : " It does not count now.";
}

/** @param {any[]} reasons @param {Child[]} sentences */
function reasonList(reasons, sentences) {
  const rows = reasons.map((reason, index) =>
    h(
      "li",
      { class: "reason", "data-counts": reason.counts, "data-source": reason.source },
      h("span", { class: "reason-mark" }, icon(reason.counts ? "check" : "close")),
      h("span", { class: "visually-hidden" }, reason.counts ? "Counts: " : "Does not count: "),
      h("span", { class: "reason-text" }, sentences[index]),
    ),
  );
  return rows.length > 0 && h("ul", { class: "reasons" }, rows);
}

/**
 * @param {any} answer of `/api/explain` about a quota
 * @returns {Child}
 */
export function quotaExplained(answer) {
  const { quota, balance, reasons, changes_at: changesAt } = answer;
  const name = h("code", null, quota);
  return [
    verdict(
      balance !== null,
      balance === null ? ["There is no quota ", name, " for this user."] : [name, ": ", balanceWords(balance)],
    ),
    reasonList(reasons, reasons.map(quotaReason)),
    changesAt !== null &&
      h("p", { class: "hint" }, "By the clock it changes next ", fromNow(changesAt), ", on ", when(changesAt), "."),
  ];
}

/** @param {any} balance */
function balanceWords(balance) {
  if (balance.limit === undefined) {
    return `${figure(balance.used)} used, and no limit.`;
  }
  const held = balance.reserved ? `, ${figure(balance.reserved)} reserved` : "";
  return `${figure(balance.remaining)} of ${figure(balance.limit)} left (${figure(balance.used)} used${held}).`;
}

/** @param {any} reason @param {number} _ @param {any[]} reasons @returns {Child} */
function quotaReason(reason, _, reasons) {
  if (reason.source === "usage") {
    const held = reason.reserved ? `, and ${counted(reason.reserved, "unit")} reserved` : "";
    const which = reason.counts ? "the present period" : "another period";
    return [`${counted(reason.used, "unit")} used${held} in ${which}, which began on `, when(reason.period_start), "."];
  }
  if (reason.source === "plan") {
    const { plan } = reason.row;
    const overruled = reason.counts ? null : " The override stands in its place.";
    return [
      "The plan ",
      h("a", { href: link("admin", "plans", plan) }, h("code", null, plan)),
      ` sets ${limitWords(reason)}.`,
      overruled,
    ];
  }
  return [`An override for this user alone sets ${limitWords(reason)}`, dates(reason), ".", whyNot(reason, reasons)];
}
