/** One role, or one that is being made. */

import { h, replace, setText } from "../../dom.js";
import { nameProblem } from "../../names.js";
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

/** @typedef {import("../../app.js").Context} Context */

const ID_HINT = "Letters, digits and . _ : -, a letter first. It stays.";

/** @param {Context} context */
export function mount(context) {
  const { api, params, query, signal } = context;
  const above = h("a", { href: link("admin", "roles") }, "← Roles");
  if (query.has("new")) {
    return page("New role", { above }, new RoleEditor(context, null, null).element);
  }
  const title = h("span", null, params.id);
  const asked = loading(
    () => api.request("GET", pathOf(params.id), { signal }),
    ({ body, etag }) => {
      setText(title, body.name || body.id);
      return new RoleEditor(context, body, etag).element;
    },
    signal,
    4,
  );
  return page(title, { above, lead: h("code", null, params.id) }, asked.element);
}

/** @param {string} id */
function pathOf(id) {
  return ["/roles", id];
}

class RoleEditor {
  /** @param {Context} context @param {any} role `null`: it is being made @param {string | null} etag */
  constructor(context, role, etag) {
    this._context = context;
    this._role = role;
    this._etag = etag;
    this._notice = h("div", { role: "alert", test: "overtaken" });
    this._place = h("div", { class: "page" });
    this.element = h("div", { class: "page" }, this._notice, this._place);
    this._show();
  }

  _show() {
    const locked = !this._context.session.may("roles.write");
    const fresh = this._role === null;
    const role = this._role ?? { id: "", name: "", permissions: [] };
    const text = { spellcheck: "false", autocapitalize: "none" };
    const id = fresh ? textField("Id", { ...text, test: "role-id" }, { hint: ID_HINT }) : null;
    const name = textField("Name", { value: role.name, disabled: locked, test: "role-name" });
    const called = edited(name.input, role.name);
    const permissions = namesField("Permission", role.permissions, locked);
    void knownNames(this._context).then((known) => permissions.suggest(known.permissions));
    const cards = [
      card("General", {}, h("div", { class: "form-row" }, id?.element, name.element)),
      card("Permissions", {}, permissions.element),
    ];
    if (locked) {
      replace(this._place, note("info", "You may look. Changing roles takes the permission roles.write."), cards);
      return;
    }
    const remove = !fresh && button("Delete role…", () => void this._delete(), { kind: "quiet-danger" });
    const submit = async () => {
      const wanted = { id: id?.input.value.trim() ?? role.id, name: called(), permissions: permissions.read() };
      const unnamed = id !== null && refused(id, nameProblem(wanted.id, "role"));
      if (!unnamed && wanted.permissions !== null) {
        await (fresh ? this._create(wanted) : this._save(wanted));
      }
    };
    replace(
      this._place,
      form(
        { verb: fresh ? "Make role" : "Save", beside: remove, verbTest: "role-save", label: "Role" },
        submit,
        ...cards,
      ),
    );
  }

  /** @param {any} wanted */
  async _create(wanted) {
    await this._context.api.post("/roles", wanted);
    toast(`The role ${wanted.id} was made.`);
    go(link("admin", "roles", wanted.id));
  }

  /** @param {any} wanted */
  async _save(wanted) {
    const { api } = this._context;
    const patch = patchOf(this._role, wanted);
    if (Object.keys(patch).length === 0) {
      toast("There is nothing to save.");
      return;
    }
    const path = pathOf(this._role.id);
    try {
      const { body, etag } = await api.request("PATCH", path, { body: patch, ifMatch: this._etag });
      const { seq, ...role } = body;
      this._taken(role, etag);
      toast(`Saved, with commit ${seq}. Whoever has the role has it so already.`);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 412) {
        throw error;
      }
      const { body, etag } = await api.request("GET", path);
      replace(
        this._notice,
        overtaken("this role", this._role, body, () => this._taken(body, etag)),
      );
      throw new ApiError(412, error.code, "Nothing was saved: somebody else changed this role since you opened it.");
    }
  }

  /** @param {any} role @param {string | null} etag */
  _taken(role, etag) {
    this._role = role;
    this._etag = etag;
    replace(this._notice);
    this._show();
  }

  async _delete() {
    const { id } = this._role;
    const remove = () => this._context.api.delete(pathOf(id));
    if (await confirm("Delete this role?", "Whoever has it loses it, and what it gives, at once.", "Delete", remove)) {
      toast(`The role ${id} was deleted.`);
      go(link("admin", "roles"));
    }
  }
}

/**
 * What differs of a role from what is wanted.
 *
 * @param {any} role
 * @param {any} wanted
 * @returns {Record<string, any>}
 */
function patchOf(role, wanted) {
  const sorted = (/** @type {string[]} */ names) => JSON.stringify([...names].sort());
  return {
    ...(wanted.name !== role.name && { name: wanted.name }),
    ...(sorted(wanted.permissions) !== sorted(role.permissions) && { permissions: wanted.permissions }),
  };
}
