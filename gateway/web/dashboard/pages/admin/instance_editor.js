/** A server instance's settings: changed as a whole, and only if nobody else got ahead. */

import { h, replace, setShown } from "../../dom.js";
import { ApiError } from "../../api.js";
import { confirm } from "../../components/dialog.js";
import { form } from "../../components/field.js";
import { note } from "../../components/layout.js";
import { toast } from "../../components/toast.js";
import { instanceFields } from "./instance_fields.js";
import { overtaken } from "./overtaken.js";

const UNREADABLE =
  "The list of networks that stands in the database can not be read, so it may ask from nowhere. Networks that are " +
  "saved here take its place.";
const ANYWHERE = "Whoever has its secret could use it from everywhere then.";

export class InstanceEditor {
  /**
   * @param {import("../../app.js").Context} context
   * @param {any} instance as the API shows it
   * @param {string | null} etag
   * @param {(instance: any) => void} told called with what stands there, whenever it is known anew
   */
  constructor(context, instance, etag, told) {
    this._context = context;
    this._instance = instance;
    this._etag = etag;
    this._told = told;
    this._saving = false;
    this._notice = h("div", { role: "alert", hidden: true, test: "overtaken" });
    this._place = h("div");
    this.element = h("div", { class: "form" }, this._notice, this._place);
    this._fields = instanceFields(instance);
    this._show();
  }

  get path() {
    return ["/instances", this._instance.id];
  }

  _show() {
    const focused = this._place.contains(document.activeElement);
    this._fields = instanceFields(this._instance);
    replace(
      this._place,
      form(
        { verb: "Save", verbTest: "instance-save", label: "Settings" },
        () => this._save(),
        this._instance.networks === null && note("warning", UNREADABLE),
        this._fields.elements,
      ),
    );
    setShown(this._notice, false);
    focused && /** @type {HTMLElement | null} */ (this._place.querySelector("button[type=submit]"))?.focus();
  }

  async _save() {
    const wanted = this._fields.read();
    if (wanted === null) {
      return;
    }
    const patch = patchOf(this._instance, wanted);
    if (Object.keys(patch).length === 0) {
      toast("There is nothing to save.");
    } else if (patch.networks?.length === 0) {
      await confirm("Let it ask from anywhere?", ANYWHERE, "Allow", () => this._write(patch));
    } else {
      await this._write(patch);
    }
  }

  /** @param {Record<string, any>} patch */
  async _write(patch) {
    this._saving = true;
    try {
      const asked = { body: patch, ifMatch: this._etag };
      const { body, etag } = await this._context.api.request("PATCH", this.path, asked);
      const { seq, ...instance } = body;
      this._taken(instance, etag);
      toast(`Saved, with commit ${seq}.`);
    } catch (error) {
      if (error instanceof ApiError && error.status === 412) {
        this._came(await this._context.api.request("GET", this.path));
        const words = "Nothing was saved: somebody else changed this instance since you opened it.";
        throw new ApiError(412, error.code, words);
      }
      throw error;
    } finally {
      this._saving = false;
    }
  }

  /** @param {"active" | "disabled"} status */
  async setStatus(status) {
    const { body, etag } = await this._context.api.request("PATCH", this.path, { body: { status } });
    const { seq: _, ...instance } = body;
    this._came({ body: instance, etag });
  }

  /**
   * Looks what stands there now.
   *
   * @throws {ApiError} with 404 when it is gone
   */
  async compare() {
    const answer = await this._context.api.request("GET", this.path, { signal: this._context.signal });
    this._saving || this._came(answer);
  }

  /** Somebody else may have changed it; what was typed is kept. @param {{body: any, etag: string | null}} answer */
  _came({ body, etag }) {
    if (etag === this._etag) {
      return;
    }
    this._told(body);
    const before = this._instance;
    if (same(before, body)) {
      this._instance = body;
      this._etag = etag;
    } else if (Object.keys(patchOf(before, this._fields.draft())).length > 0) {
      const load = () => this._taken(body, etag);
      replace(this._notice, overtaken("this instance", settings(before), settings(body), load));
      setShown(this._notice, true);
    } else {
      this._taken(body, etag);
    }
  }

  /** @param {any} instance @param {string | null} etag */
  _taken(instance, etag) {
    this._instance = instance;
    this._etag = etag;
    this._told(instance);
    this._show();
  }
}

/** What the form shows of an instance. @param {any} instance */
function settings({ name, networks, requests_per_minute }) {
  return { name, networks, requests_per_minute };
}

/** @param {any} one @param {any} other */
function same(one, other) {
  return JSON.stringify(settings(one)) === JSON.stringify(settings(other));
}

/**
 * What differs of an instance from what is wanted. A list of networks that can not be read is as empty as the field,
 * and stays when nothing was put into that.
 *
 * @param {any} instance
 * @param {import("./instance_fields.js").Wanted} wanted
 * @returns {Record<string, any>}
 */
function patchOf(instance, wanted) {
  const sorted = (/** @type {string[] | null} */ networks) => JSON.stringify([...(networks ?? [])].sort());
  return {
    ...(wanted.name !== instance.name && { name: wanted.name }),
    ...(sorted(wanted.networks) !== sorted(instance.networks) && { networks: wanted.networks }),
    ...(wanted.requests_per_minute !== instance.requests_per_minute && {
      requests_per_minute: wanted.requests_per_minute,
    }),
  };
}
