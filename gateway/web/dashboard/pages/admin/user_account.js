/** A user's account: name, plan, status and the rest, changed as a whole and only if nobody else got ahead. */

import { h, replace, setShown } from "../../dom.js";
import { ApiError } from "../../api.js";
import { nameProblem } from "../../names.js";
import { confirm } from "../../components/dialog.js";
import { checkBox, choiceField, edited, form, refused, textField } from "../../components/field.js";
import { card, terms } from "../../components/layout.js";
import { toast } from "../../components/toast.js";
import { knownPlans, suggestions } from "./known_names.js";
import { overtaken } from "./overtaken.js";
import { isAdmin } from "./rights.js";
import { onceChanged } from "./watched.js";

/** @typedef {import("./subject.js").Subject} Subject */

const FIELDS = ["username", "name", "email", "plan", "status", "timezone", "is_admin"];

/**
 * @param {Subject} subject
 * @param {string | null} etag of the user as it was read
 */
export function accountCard(subject, etag) {
  if (!subject.mayWrite) {
    const { user } = subject;
    return card(
      "Account",
      {},
      terms([
        ["User name", user.username],
        ["E-mail", user.email ?? "none"],
        ["Time zone", user.timezone],
      ]),
    );
  }
  const account = new Account(subject, etag);
  return card(
    "Account",
    { lead: "Saved only if nobody else has changed it meanwhile.", test: "account" },
    account.element,
  );
}

class Account {
  /** @param {Subject} subject @param {string | null} etag */
  constructor(subject, etag) {
    this._subject = subject;
    this._etag = etag;
    this._user = subject.user;
    this._notice = h("div", { role: "alert", hidden: true, test: "overtaken" });
    this._place = h("div");
    this.element = h("div", { class: "form" }, this._notice, this._place);
    this._saving = false;
    /** What the form says. @type {() => Record<string, any>} */
    this._wanted = () => this._user;
    this._show();
    onceChanged(subject.context, subject.doc, subject.context.signal, () => void this._compare(), 3000);
  }

  /** Shows the form as the user stands. */
  _show() {
    const { context } = this._subject;
    const user = this._user;
    const fields = accountFields(user);
    const admin = checkBox("Administrator: may do everything", { checked: user.is_admin });
    void knownPlans(context).then((plans) => suggestions(fields.plan.input, plans));
    const texts = Object.entries(fields).map(([name, { input }]) => ({ name, read: edited(input, user[name] ?? "") }));
    this._wanted = () => {
      const said = Object.fromEntries(texts.map(({ name, read }) => [name, read()]));
      const email = said.email === (user.email ?? "") ? user.email : said.email || null;
      return { ...said, email, is_admin: admin.input.checked };
    };
    const submit = async () => {
      const { plan } = this._wanted();
      if (!refused(fields.plan, plan === user.plan ? null : nameProblem(plan, "plan"))) {
        await this._save();
      }
    };
    const rows = h(
      "div",
      { class: "form-row" },
      Object.values(fields).map((field) => field.element),
    );
    const box = isAdmin(context.session) && admin.element;
    replace(
      this._place,
      form({ verb: "Save", verbTest: "account-save" }, submit, rows, box),
    );
    setShown(this._notice, false);
  }

  async _save() {
    const wanted = this._wanted();
    const names = this._changed();
    const changed = Object.fromEntries(names.map((name) => [name, wanted[name]]));
    if (names.length === 0) {
      toast("There is nothing to save.");
      return;
    }
    const question = questionOf(this._user, changed);
    if (question === null) {
      await this._write(changed);
    } else {
      await confirm(question.title, question.text, question.verb, () => this._write(changed));
    }
  }

  /** @param {Record<string, any>} changed */
  async _write(changed) {
    const { api } = this._subject.context;
    this._saving = true;
    try {
      const send = async () => {
        const { body, etag } = await api.request("PATCH", this._subject.path(), { body: changed, ifMatch: this._etag });
        this._etag = etag;
        return body;
      };
      const { seq, ...user } = await this._subject.edit(`Change ${Object.keys(changed).join(", ")}`, send);
      this._taken(user);
      this._subject.tell(`Saved, with commit ${seq}.`);
    } catch (error) {
      if (error instanceof ApiError && error.status === 412) {
        await this._compare(true);
        throw new ApiError(412, error.code, "Nothing was saved: somebody else changed this user since you opened it.");
      }
      throw error;
    } finally {
      this._saving = false;
    }
  }

  /** Looks whether somebody else changed what the form shows. @param {boolean} [refused] after a refusal */
  async _compare(refused = false) {
    if (this._saving && !refused) {
      return;
    }
    const { api, signal } = this._subject.context;
    const answer = await api.request("GET", this._subject.path(), { signal }).catch(() => null);
    if (answer === null || answer.etag === this._etag || (this._saving && !refused)) {
      return;
    }
    const same = JSON.stringify(shownOf(this._user)) === JSON.stringify(shownOf(answer.body));
    const dirty = this._changed().length > 0;
    if (dirty && !same) {
      this._overtaken(answer);
    } else {
      this._etag = answer.etag;
      same ? (this._user = answer.body) : this._taken(answer.body);
    }
  }

  /** What was typed does not go together with what somebody else did. @param {import("../../api.js").Answer} answer */
  _overtaken({ body, etag }) {
    const load = () => {
      this._etag = etag;
      this._taken(body);
      this._place.querySelector("input")?.focus();
    };
    replace(this._notice, overtaken("this user", shownOf(this._user), shownOf(body), load));
    setShown(this._notice, true);
  }

  /** The names of the fields that say something else than what was read. */
  _changed() {
    const wanted = this._wanted();
    return FIELDS.filter((name) => wanted[name] !== this._user[name]);
  }

  /** @param {any} user what stands there now */
  _taken(user) {
    this._user = user;
    this._subject.user = user;
    this._show();
  }
}

/** @param {any} user */
function accountFields(user) {
  const text = { spellcheck: "false", autocapitalize: "none" };
  return {
    username: textField("User name", { ...text, value: user.username }),
    name: textField("Name", { value: user.name, test: "account-name" }),
    email: textField("E-mail", { ...text, type: "email", value: user.email ?? "" }),
    timezone: textField("Time zone", { ...text, value: user.timezone }),
    status: choiceField(
      "Status",
      [
        ["active", "Active"],
        ["disabled", "Disabled"],
      ],
      { value: user.status, test: "account-status" },
    ),
    plan: textField("Plan", { ...text, value: user.plan, test: "account-plan" }),
  };
}

/** What people see of a user. @param {any} user */
function shownOf(user) {
  return Object.fromEntries([...FIELDS, "attributes", "anchor_at"].map((name) => [name, user[name] ?? null]));
}

/**
 * What has to be asked before it is saved; `null`: nothing.
 *
 * @param {any} user
 * @param {Record<string, any>} changed
 */
function questionOf(user, changed) {
  if (changed.status === "disabled") {
    const text = `${user.username} loses every permission at once, and all sessions and connections end.`;
    return { title: "Disable this user?", text, verb: "Disable" };
  }
  if (changed.is_admin === true) {
    return {
      title: "Make an administrator?",
      text: `${user.username} may do everything from then on.`,
      verb: "Make administrator",
    };
  }
  return null;
}
