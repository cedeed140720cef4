/**
 * The dashboard: what is shown follows the session (`session.js`), and in a session the address (`router.js`).
 *
 * How a page is written
 * ---------------------
 * A page is a module in `pages/` that exports `mount(context)`, and a row in `routes.js` (for administrators in
 * `pages/admin/routes.js`: with `group: "admin"`, `needs: (session) => session.may("users.read")`, and an `icon` if
 * it is to stand in the navigation). The module is loaded when somebody goes there.
 *
 *     export function mount(context) {
 *       const name = h("strong");
 *       context.live.document((data) => setText(name, data.identity.name), context.signal);
 *       return page("Title", { lead: "One sentence.", actions: [] }, card("Part", {}, name));
 *     }
 *
 * - `mount` returns the page at once; it is called when the own document is there, so `session.identity` is never null.
 *   `page()` of `components/layout.js` gives the `h1`, which takes the focus.
 * - There is no unmount: whatever a page begins ends with `context.signal`, which is aborted when somebody leaves it.
 *   Give it to listeners, to `api` calls, `live` and `eachWhileSeen`.
 * - Live data: `context.live.document(render, signal, doc?)` calls `render` now and at most once a frame after changes,
 *   with the whole document. `render` changes what differs and nothing else: `setText`, `setMark`, `setStyle`,
 *   `setShown`, `KeyedList` (`dom.js`). Another document (`user:ID`) has to be watched by
 *   `context.channel.watch([doc])`, and unwatched when the signal is aborted.
 * - What the HTTP API says comes by `context.api` and is shown by `loading()` (`components/loading.js`): a skeleton,
 *   then the content, or the problem with a button to try again. Writes go through `acting()`
 *   (`components/button.js`), which shows that it is under way and tells what went wrong.
 * - Shared parts are in `components/`; `components/quota.js` shows a quota, `components/table.js` a table that becomes
 *   a list on a phone, `components/dialog.js` asks.
 */

import { h, replace } from "./dom.js";
import { placeOf } from "./router.js";
import { ROUTES } from "./routes.js";
import { Session } from "./session.js";
import { Shell } from "./shell.js";
import { signInView } from "./pages/sign_in.js";
import { splash } from "./components/splash.js";

/**
 * What a page is given.
 *
 * @typedef {object} Context
 * @property {Session} session
 * @property {import("./api.js").Api} api
 * @property {import("/sdk/gateway.js").Channel} channel
 * @property {import("./live.js").Live} live
 * @property {Record<string, string>} params of the address
 * @property {URLSearchParams} query of the address
 * @property {AbortSignal} signal aborted when the page is left
 */

class App {
  /** @param {HTMLElement} root */
  constructor(root) {
    this._root = root;
    this._session = new Session();
    /** @type {Shell | null} */
    this._shell = null;
    /** @type {string | null} */
    this._shown = null;
    this._session.onChange(() => this._show());
  }

  start() {
    this._show();
    void this._session.start();
    // The page of the address is fetched meanwhile; whether it can be is said when it is shown.
    placeOf(ROUTES, location.hash)
      ?.route.load()
      .catch(() => undefined);
  }

  _show() {
    const { state, notice } = this._session;
    const shown = `${state} ${notice}`;
    if (shown === this._shown) {
      return;
    }
    this._shown = shown;
    this._shell?.leave();
    this._shell = null;
    document.querySelectorAll("dialog[open]").forEach((dialog) => dialog.remove());
    if (state === "signed-in") {
      this._shell = new Shell(this._session, ROUTES);
      replace(this._root, this._shell.element);
      this._shell.enter();
    } else if (state === "signed-out") {
      replace(this._root, signInView(this._session));
    } else {
      replace(
        this._root,
        splash(notice, () => this._session.start()),
      );
    }
  }
}

const root = document.getElementById("app") ?? document.body.appendChild(h("div", { id: "app" }));
new App(root).start();
