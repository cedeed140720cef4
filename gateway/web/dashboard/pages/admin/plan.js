/** One plan, or one that is being made: its editor, and what saving it would do to whom. */

import { h, replace, setText } from "../../dom.js";
import { nameProblem } from "../../names.js";
import { own } from "../../own.js";
import { ApiError } from "../../api.js";
import { go, link } from "../../router.js";
import { button } from "../../components/button.js";
import { confirm } from "../../components/dialog.js";
import { edited, form, refused, textField } from "../../components/field.js";
import { card, note, page } from "../../components/layout.js";
import { loading } from "../../components/loading.js";
import { toast } from "../../components/toast.js";
import { knownNames } from "./known_names.js";
import { namesField } from "./names_field.js";
import { overtaken } from "./overtaken.js";
import { reviewDialog } from "./plan_preview.js";
import { quotaRows } from "./quota_rows.js";

/** @typedef {import("../../app.js").Context} Context */

const ID_HINT = "Letters, digits and . _ : -, a letter first. It stays.";
const EMPTY = { id: "", name: "", permissions: [], quotas: {} };

/** @param {Context} context */
export function mount(context) {
  const { api, params, query, signal } = context;
  const above = h("a", { href: link("admin", "plans") }, "← Plans");
  if (query.has("new")) {
    return page("New plan", { above }, new PlanEditor(context, null, null).element);
  }
  const path = ["/plans", params.id];
  const title = h("span", null, params.id);
  const ask = () => api.request("GET", path, { signal });
  const asked = loading(
    ask,
    ({ body, etag }) => {
      setText(title, body.name || body.id);
      return new PlanEditor(context, body, etag).element;
    },
    signal,
    6,
  );
  return page(title, { above, lead: h("code", null, params.id) }, asked.element);
}

class PlanEditor {
  /** @param {Context} context @param {any} plan `null`: it is being made @param {string | null} etag */
  constructor(context, plan, etag) {
    this._context = context;
    this._plan = plan;
    this._etag = etag;
    this._mayWrite = context.session.may("plans.write");
    this._notice = h("div", { role: "alert", test: "overtaken" });
    this._place = h("div", { class: "page" });
    this.element = h("div", { class: "page" }, this._notice, this._place);
    this._show();
  }

  _show() {
    const plan = this._plan ?? EMPTY;
    const locked = !this._mayWrite;
    const text = { spellcheck: "false", autocapitalize: "none" };
    const id = this._plan === null ? textField("Id", { ...text, test: "plan-id" }, { hint: ID_HINT }) : null;
    const name = textField("Name", { value: plan.name, disabled: locked, test: "plan-name" });
    const called = edited(name.input, plan.name);
    const permissions = namesField("Permission", plan.permissions, locked);
    const quotas = quotaRows(plan.quotas, locked);
    const read = () => ({
      id: id?.input.value.trim() ?? plan.id,
      name: called(),
      permissions: permissions.read(),
      quotas: quotas.read(),
    });
    void knownNames(this._context).then((known) => {
      permissions.suggest(known.permissions);
      quotas.suggest(known.quotas);
    });
    const general = h("div", { class: "form-row" }, id?.element, name.element);
    const cards = [
      card("General", {}, general),
      card("Permissions", { test: "plan-permissions" }, permissions.element),
      card("Quotas", { test: "plan-quotas" }, quotas.element),
    ];
    replace(
      this._place,
      this._mayWrite
        ? this._form(read, cards, id)
        : [note("info", "You may look. Changing plans takes the permission plans.write."), cards],
    );
  }

  /** @param {() => any} read @param {Node[]} cards @param {import("../../components/field.js").Field | null} id */
  _form(read, cards, id) {
    const remove =
      this._plan !== null &&
      button("Delete plan…", () => void this._delete(), { kind: "quiet-danger", test: "delete-plan" });
    const verb = this._plan === null ? "Make plan" : "Review changes…";
    const submit = async () => {
      const wanted = read();
      const unnamed = id !== null && refused(id, nameProblem(wanted.id, "plan"));
      if (!unnamed && wanted.permissions !== null && wanted.quotas !== null) {
        await (this._plan === null ? this._create(wanted) : this._review(wanted));
      }
    };
    return form({ verb, verbTest: "plan-save", beside: remove, label: "Plan" }, submit, ...cards);
  }

  /** @param {any} wanted */
  async _create(wanted) {
    await this._context.api.post("/plans", wanted);
    toast(`The plan ${wanted.id} was made.`);
    go(link("admin", "plans", wanted.id));
  }

  /** Shows what saving would do, and saves. @param {any} wanted */
  async _review(wanted) {
    const patch = patchOf(this._plan, wanted);
    if (Object.keys(patch).length === 0) {
      toast("There is nothing to save.");
      return;
    }
    const { body, etag } = await this._context.api.request("POST", [...this._path, "preview"], { body: patch });
    if (etag !== null && etag !== this._etag) {
      throw await this._overtaken();
    }
    await reviewDialog(this._context, this._plan, patch, body, () => this._save(patch));
  }

  /** @param {Record<string, any>} patch */
  async _save(patch) {
    const { api } = this._context;
    try {
      const { body, etag } = await api.request("PATCH", this._path, { body: patch, ifMatch: this._etag });
      const { seq, ...plan } = body;
      this._taken(plan, etag);
      toast(`Saved, with commit ${seq}.`);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 412) {
        throw error;
      }
      throw await this._overtaken();
    }
  }

  /** Shows what somebody else made of the plan; what to throw. */
  async _overtaken() {
    const { body, etag } = await this._context.api.request("GET", this._path);
    replace(
      this._notice,
      overtaken("this plan", this._plan, body, () => this._taken(body, etag)),
    );
    this._notice.scrollIntoView({ block: "center" });
    return new ApiError(412, "precondition_failed", "Nothing was saved: somebody else changed this plan meanwhile.");
  }

  /** @param {any} plan @param {string | null} etag */
  _taken(plan, etag) {
    this._plan = plan;
    this._etag = etag;
    replace(this._notice);
    this._show();
  }

  async _delete() {
    const remove = () => this._context.api.delete(this._path);
    if (
      await confirm(
        "Delete this plan?",
        "Only a plan that nobody is on can be deleted. It can not be taken back.",
        "Delete",
        remove,
      )
    ) {
      toast(`The plan ${this._plan.id} was deleted.`);
      go(link("admin", "plans"));
    }
  }

  get _path() {
    return ["/plans", this._plan.id];
  }
}

/**
 * The merge patch (RFC 7396) that makes of a plan what is wanted.
 *
 * @param {any} plan
 * @param {any} wanted
 * @returns {Record<string, any>}
 */
function patchOf(plan, wanted) {
  /** @type {Record<string, any>} */
  const patch = {};
  if (wanted.name !== plan.name) {
    patch.name = wanted.name;
  }
  if (JSON.stringify([...wanted.permissions].sort()) !== JSON.stringify([...plan.permissions].sort())) {
    patch.permissions = wanted.permissions;
  }
  /** @type {[string, any][]} */
  const quotas = [];
  for (const name of new Set([...Object.keys(plan.quotas), ...Object.keys(wanted.quotas)])) {
    const before = own(plan.quotas, name);
    const after = own(wanted.quotas, name) ?? null;
    if (
      before === undefined ||
      after === null ||
      ["limit", "period", "hard"].some((part) => before[part] !== after[part])
    ) {
      quotas.push([name, after]);
    }
  }
  return quotas.length > 0 ? { ...patch, quotas: Object.fromEntries(quotas) } : patch;
}
