/** Figures, moments and names, as people read them. */

import { now as gatewayNow } from "./clock.js";

const LANGUAGE = "en";
const number = new Intl.NumberFormat(LANGUAGE);
const dateTime = new Intl.DateTimeFormat(LANGUAGE, { dateStyle: "medium", timeStyle: "short" });
const date = new Intl.DateTimeFormat(LANGUAGE, { dateStyle: "medium" });
const exact = new Intl.DateTimeFormat(LANGUAGE, { dateStyle: "full", timeStyle: "long" });
const clock = new Intl.DateTimeFormat(LANGUAGE, { timeStyle: "medium" });
const relative = new Intl.RelativeTimeFormat(LANGUAGE, { numeric: "auto" });

const SKEW_S = 5;

/** @type {[Intl.RelativeTimeFormatUnit, number][]} */
const UNITS = [
  ["year", 31_557_600],
  ["month", 2_629_800],
  ["day", 86_400],
  ["hour", 3600],
  ["minute", 60],
];

/** @param {number} value */
export function figure(value) {
  return number.format(value);
}

/**
 * A count with its noun: `counted(2, "token")` is "2 tokens".
 *
 * @param {number} count
 * @param {string} one
 * @param {string} [many]
 */
export function counted(count, one, many = `${one}s`) {
  return `${figure(count)} ${count === 1 ? one : many}`;
}

/** @typedef {string | number | Date} Moment  RFC 3339, milliseconds since 1970 UTC, or a date */

/** @param {Moment} moment */
export function moment(moment) {
  return dateTime.format(new Date(moment));
}

/** @param {Moment} moment */
export function day(moment) {
  return date.format(new Date(moment));
}

/** @param {Moment} moment */
export function wholeMoment(moment) {
  return exact.format(new Date(moment));
}

/** @param {Moment} moment */
export function timeOfDay(moment) {
  return clock.format(new Date(moment));
}

/**
 * How far a moment is from now: "in 8 days", "3 minutes ago". What has just happened may seem to be yet to come by a
 * few seconds.
 *
 * @param {Moment} moment
 * @param {number} [now] milliseconds since 1970 UTC, by the gateway's clock
 */
export function fromNow(moment, now = gatewayNow()) {
  const seconds = (new Date(moment).getTime() - now) / 1000;
  for (const [unit, length] of UNITS) {
    if (Math.abs(seconds) >= length) {
      return relative.format(Math.trunc(seconds / length), unit);
    }
  }
  return Math.abs(seconds) < 45
    ? seconds < SKEW_S
      ? "just now"
      : "in a moment"
    : relative.format(Math.sign(seconds), "minute");
}

/**
 * How long something takes: "12 s", "3 min", "2 h", "4 d".
 *
 * @param {number} seconds
 */
export function duration(seconds) {
  if (seconds < 60) {
    return `${Math.floor(seconds)} s`;
  }
  if (seconds < 3600) {
    return `${Math.floor(seconds / 60)} min`;
  }
  return seconds < 86_400 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86_400)} d`;
}

const SHORT = new Set(["ai", "api", "gb", "gpu", "id", "ip", "llm", "mb", "sms", "ui", "url"]);

/**
 * A name of the gateway's as words: `voice_minutes` is "Voice minutes".
 *
 * @param {string} name
 */
export function inEnglish(name) {
  const words = name.split(/[_.\-:\s]+/).filter((word) => word !== "");
  if (words.length === 0) {
    return name;
  }
  const said = words.map((word) => (SHORT.has(word.toLowerCase()) ? word.toUpperCase() : word)).join(" ");
  return said[0].toUpperCase() + said.slice(1);
}

/**
 * Up to two letters that stand for somebody.
 *
 * @param {string} name
 */
export function initials(name) {
  const words = name.split(/[\s._@-]+/).filter((word) => /\p{L}|\p{N}/u.test(word));
  const letters = words.length > 1 ? [words[0], words[words.length - 1]] : words;
  return letters.map((word) => (word.match(/\p{L}|\p{N}/u)?.[0] ?? "").toUpperCase()).join("") || "?";
}

const BROWSERS = /** @type {[RegExp, string][]} */ ([
  [/\bEdgA?\//, "Edge"],
  [/\bOPR\//, "Opera"],
  [/\bFirefox\//, "Firefox"],
  [/\bHeadlessChrome\/|\bChrome\/|\bCriOS\//, "Chrome"],
  [/\bSafari\//, "Safari"],
  [/^curl\//, "curl"],
]);
const SYSTEMS = /** @type {[RegExp, string][]} */ ([
  [/\biPhone\b/, "iPhone"],
  [/\biPad\b/, "iPad"],
  [/\bAndroid\b/, "Android"],
  [/\bWindows\b/, "Windows"],
  [/\bMac OS X\b/, "macOS"],
  [/\bCrOS\b/, "ChromeOS"],
  [/\bLinux\b/, "Linux"],
]);

/**
 * What a `User-Agent` seems to be: "Firefox on Linux".
 *
 * @param {string | null} agent
 */
export function device(agent) {
  if (!agent) {
    return "Unknown device";
  }
  const browser = BROWSERS.find(([form]) => form.test(agent))?.[1];
  const system = SYSTEMS.find(([form]) => form.test(agent))?.[1];
  if (browser === undefined) {
    return agent;
  }
  return system === undefined ? browser : `${browser} on ${system}`;
}
