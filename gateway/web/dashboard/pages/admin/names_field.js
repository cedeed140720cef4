/** A set of names, or of what else is written in a word: taken away one by one, added by typing. */

import { h, KeyedList, setShown } from "../../dom.js";
import { nameProblem } from "../../names.js";
import { button } from "../../components/button.js";
import { refused, textField } from "../../components/field.js";
import { icon } from "../../components/icon.js";
import { suggestions } from "./known_names.js";

/**
 * @typedef {object} About
 * @property {(name: string, noun: string) => string | null} [problem] what is wrong with one; absent: with a name
 * @property {string} [example]
 * @property {string} [none] what is said when there are none
 */

/**
 * @param {string} noun what they are
 * @param {readonly string[]} given
 * @param {boolean} locked whether they can only be looked at
 * @param {About} [about]
 */
export function namesField(noun, given, locked, about = {}) {
  let held = [...given].sort();
  const chips = h("ul", { class: "chips" });
  const none = h("p", { class: "hint" }, about.none ?? "None.");
  const plain = { spellcheck: "false", autocapitalize: "none", test: "add-name" };
  const added = textField(`Add a ${noun.toLowerCase()}`, { ...plain, placeholder: about.example });
  const show = (/** @type {string[]} */ names) => {
    held = names;
    list.show(held);
    setShown(none, held.length === 0);
    setShown(chips, held.length > 0);
  };
  const away = (/** @type {string} */ name) => {
    show(held.filter((one) => one !== name));
    added.input.focus();
  };
  const list = new KeyedList(
    chips,
    (/** @type {string} */ name) => name,
    (name) => chip(name, locked ? null : away),
  );
  /** @returns {string[] | null} `null`: something is wrong, and told */
  const add = () => {
    const names = typedNames(added, (name) => (about.problem ?? nameProblem)(name, noun.toLowerCase()));
    names && show([...new Set([...held, ...names])].sort());
    return names && held;
  };
  added.input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && added.input.value.trim() !== "") {
      event.preventDefault();
      add();
    }
  });
  const entry = h("div", { class: "names-add" }, added.element, button("Add", add, { test: "add-name-button" }));
  show(held);
  const suggest = (/** @type {string[]} */ names) => locked || suggestions(added.input, names);
  // What is typed and was not added counts too.
  const names = () => [...new Set([...held, ...typed(added.input)])].sort();
  return { element: h("div", { class: "form" }, chips, none, !locked && entry), read: add, names, suggest };
}

/** What stands in a field, right or wrong. @param {{value: string}} input */
function typed({ value }) {
  return value.split(/[\s,]+/).filter(Boolean);
}

/**
 * Takes the names that stand in a field.
 *
 * @param {import("../../components/field.js").Field} added
 * @param {(name: string) => string | null} problemOf
 * @returns {string[] | null} `null`: something is wrong, and told
 */
function typedNames(added, problemOf) {
  const names = typed(added.input);
  const wrong = names.map(problemOf).find((problem) => problem !== null);
  if (refused(added, wrong ?? null)) {
    return null;
  }
  added.input.value = "";
  return names;
}

/**
 * @param {string} name
 * @param {((name: string) => void) | null} away `null`: it stays
 */
function chip(name, away) {
  const about = { type: "button", class: "chip-remove", "aria-label": `Remove ${name}`, test: `remove-${name}` };
  const remove = away && h("button", { ...about, onclick: () => away(name) }, icon("close"));
  return { element: h("li", { class: "chip" }, h("code", null, name), remove), update: () => {} };
}
