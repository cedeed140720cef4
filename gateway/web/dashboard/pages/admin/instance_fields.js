/** The fields that a server instance has: its name, where it may ask from, and how often. */

import { h } from "../../dom.js";
import { networkProblem } from "../../names.js";
import { refused, textField } from "../../components/field.js";
import { namesField } from "./names_field.js";

const MOST_A_MINUTE = 100_000;
const DEFAULT_A_MINUTE = 6000;

/**
 * @typedef {object} Wanted
 * @property {string} name
 * @property {string[]} networks
 * @property {number} requests_per_minute
 */

/** @param {any} [instance] as the API shows it; absent: one that is to be made */
export function instanceFields(instance) {
  const name = textField("Name", { value: instance?.name ?? "", maxlength: 200, test: "instance-name" });
  const rate = textField(
    "Requests a minute",
    {
      inputmode: "numeric",
      value: String(instance?.requests_per_minute ?? DEFAULT_A_MINUTE),
      test: "instance-rate",
    },
    { hint: "Of each node; beyond it the gateway refuses for a while." },
  );
  const networks = namesField("Network", instance?.networks ?? [], false, {
    problem: networkProblem,
    example: "10.0.0.0/8",
    none: "Anywhere.",
  });
  const places = h("fieldset", { class: "fieldset" }, h("legend", null, "May ask from"), networks.element);
  const elements = [h("div", { class: "form-row" }, name.element, rate.element), places];
  const shown = name.input.value;
  /** An input shows no line feeds: a name that nobody edited stays what it is. */
  const called = () => (instance && name.input.value === shown ? instance.name : name.input.value.trim());
  /** What the fields say, right or wrong. @returns {Wanted} */
  const draft = () => ({
    name: called(),
    networks: networks.names(),
    requests_per_minute: Number(rate.input.value.trim() || NaN),
  });
  /** @returns {Wanted | null} `null`: something is wrong, and told */
  const read = () => {
    const wrong = networks.read() === null || refused(rate, rateProblem(rate.input.value.trim()));
    return wrong ? null : draft();
  };
  return { name, elements, draft, read };
}

/** @param {string} text */
function rateProblem(text) {
  const number = /^\d+$/.test(text) ? Number(text) : 0;
  return number >= 1 && number <= MOST_A_MINUTE ? null : "A whole number from 1 to 100,000.";
}
