/** Fields of forms: each with its label, a hint, and what is wrong with it. */

import { freshId, h, setMark, setShown, setText } from "../dom.js";
import { acting, iconButton } from "./button.js";

/** @typedef {import("../dom.js").Child} Child */

/**
 * @typedef {object} Field
 * @property {HTMLElement} element the whole of it
 * @property {HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement} input
 * @property {(problem: string | null) => void} complain tells what is wrong; `null`: nothing
 */

/**
 * @param {string} label
 * @param {HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement} input
 * @param {{hint?: Child, beside?: Child}} [about] `beside`: what stands in the field's right end
 * @returns {Field}
 */
export function field(label, input, about = {}) {
  input.id ||= freshId("field");
  const hint = about.hint ? h("p", { class: "hint", id: `${input.id}-hint` }, about.hint) : null;
  const problem = h("p", { class: "field-problem", id: `${input.id}-problem`, hidden: true });
  const described = [hint?.id, problem.id].filter(Boolean).join(" ");
  input.setAttribute("aria-describedby", described);
  const control = about.beside ? h("div", { class: "input-group" }, input, about.beside) : input;
  const element = h("div", { class: "field" }, h("label", { for: input.id }, label), control, hint, problem);
  const complain = (/** @type {string | null} */ text) => {
    setText(problem, text ?? "");
    setShown(problem, text !== null);
    setMark(input, "aria-invalid", text === null ? null : true);
  };
  input.addEventListener("input", () => complain(null));
  return { element, input, complain };
}

/**
 * A field for a text of one line.
 *
 * @param {string} label
 * @param {import("../dom.js").Attributes} attributes of the input
 * @param {{hint?: Child, beside?: Child}} [about]
 */
export function textField(label, attributes, about) {
  const input = h("input", { type: "text", class: "input", autocomplete: "off", ...attributes });
  return { ...field(label, input, about), input };
}

/**
 * What a field says, of which `given` is what it was made with. That stays exactly as it is until somebody edits it: an
 * input shows no line feeds, and what was typed loses the space around it.
 *
 * @param {HTMLInputElement | HTMLSelectElement} input
 * @param {string} given
 * @returns {() => string}
 */
export function edited(input, given) {
  const shown = input.value;
  return () => (input.value === shown ? given : input.value.trim());
}

/**
 * Tells what is wrong with a field, and goes there.
 *
 * @param {Field} field
 * @param {string | null} problem `null`: nothing
 * @returns {boolean} whether something is
 */
export function refused({ complain, input }, problem) {
  complain(problem);
  problem !== null && input.focus();
  return problem !== null;
}

/**
 * A field for a password, which can be shown.
 *
 * @param {string} label
 * @param {import("../dom.js").Attributes} attributes of the input
 * @param {{hint?: Child}} [about]
 */
export function passwordField(label, attributes, about = {}) {
  const input = h("input", {
    type: "password",
    class: "input",
    spellcheck: "false",
    autocapitalize: "none",
    ...attributes,
  });
  const show = iconButton("eye", `Show ${label.toLowerCase()}`, () => {
    const shown = input.type === "text";
    input.type = shown ? "password" : "text";
    setMark(show, "aria-pressed", !shown);
  });
  setMark(show, "aria-pressed", false);
  return { ...field(label, input, { ...about, beside: show }), input };
}

/**
 * A field with a choice.
 *
 * @param {string} label
 * @param {Iterable<[value: string, text: string]>} choices
 * @param {import("../dom.js").Attributes} attributes of the select
 * @param {{hint?: Child}} [about]
 */
export function choiceField(label, choices, attributes = {}, about = {}) {
  const { value, ...others } = attributes;
  const options = Array.from(choices, ([key, text]) => h("option", { value: key }, text));
  const input = h("select", { class: "input select", ...others }, options);
  if (value !== undefined) {
    input.value = value;
  }
  return { ...field(label, input, about), input };
}

/**
 * A box to tick.
 *
 * @param {Child} label
 * @param {import("../dom.js").Attributes} [attributes] of the input
 */
export function checkBox(label, attributes = {}) {
  const input = h("input", { type: "checkbox", ...attributes });
  return { element: h("label", { class: "check" }, input, h("span", null, label)), input };
}

/**
 * A form. It is never sent by the browser: `submit` does what is to be done, and what goes wrong stands above the
 * buttons.
 *
 * @param {{verb: string, test?: string, danger?: boolean, beside?: Child, verbTest?: string, label?: string,
 *   narrow?: boolean}} about
 *   `verb`: what the button says
 * @param {() => Promise<unknown>} submit
 * @param {...Child} children
 */
export function form(about, submit, ...children) {
  const problem = h("p", { class: "form-problem", role: "alert", hidden: true, test: "problem" });
  const send = h(
    "button",
    { type: "submit", class: `button ${about.danger ? "button-danger" : "button-primary"}`, test: about.verbTest },
    h("span", null, about.verb),
  );
  const failed = (/** @type {string} */ words) => {
    setText(problem, words);
    setShown(problem, true);
  };
  const onsubmit = (/** @type {Event} */ event) => {
    event.preventDefault();
    setShown(problem, false);
    void acting(send, submit, failed);
  };
  const foot = h("div", { class: "form-foot" }, about.beside, send);
  const classes = about.narrow ? "form form-narrow" : "form";
  const attributes = { class: classes, novalidate: true, onsubmit, test: about.test, "aria-label": about.label };
  return h("form", attributes, ...children, problem, foot);
}
