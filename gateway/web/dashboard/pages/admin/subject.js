/** The user that a page is about. */

import { toast } from "../../components/toast.js";
import { EditLog } from "./edit_log.js";
import { mayWriteUser } from "./rights.js";

/** @typedef {import("../../app.js").Context} Context */

/**
 * All that was written for a user alone, in force or not.
 *
 * @typedef {object} Grants
 * @property {string} plan
 * @property {{role: string, expires_at: string | null}[]} roles
 * @property {{permission: string, effect: "allow" | "deny", starts_at: string | null,
 *   expires_at: string | null}[]} permissions
 * @property {{quota: string, limit: number | null, period: string, hard: boolean, starts_at: string | null,
 *   expires_at: string | null}[]} quotas
 */

/** @type {Grants} */
const NOTHING = { plan: "", roles: [], permissions: [], quotas: [] };

export class Subject {
  /**
   * @param {Context} context
   * @param {any} user as the API shows it
   */
  constructor(context, user) {
    this.context = context;
    this.id = user.id;
    this.doc = `user:${user.id}`;
    this.log = new EditLog(context, this.doc);
    /** As the API showed it last. */
    this.user = user;
    this.grants = NOTHING;
    /** @type {Set<() => void>} */
    this._listeners = new Set();
  }

  /** Whether the caller may change this user. */
  get mayWrite() {
    return mayWriteUser(this.context.session, this.user);
  }

  /** Where a part of the user stands in the API. @param {...string} parts */
  path(...parts) {
    return ["/users", this.id, ...parts];
  }

  /** What the channel holds of the user; `null`: nothing. @returns {any} */
  get document() {
    const held = this.context.channel.documents[this.doc];
    return held !== undefined && Object.keys(held).length > 0 ? held : null;
  }

  /** @param {() => void} callback called when the grants were read again */
  onGrants(callback) {
    this._listeners.add(callback);
  }

  /** Reads the grants again. */
  async readGrants() {
    if (this.context.session.may("users.write")) {
      this.grants = await this.context.api.get(this.path("grants"), { signal: this.context.signal });
      this._listeners.forEach((callback) => callback());
    }
  }

  /** Tells that something was done, where the log does not stand beside it. @param {string} text */
  tell(text) {
    if (window.matchMedia("(max-width: 1180px)").matches) {
      toast(text);
    }
  }

  /**
   * Carries out an edit: it stands in the log, and the grants are read again.
   *
   * @param {string} title
   * @param {() => Promise<any>} act
   */
  async edit(title, act) {
    const answer = await this.log.edit(title, act);
    await this.readGrants().catch(() => {});
    return answer;
  }
}
