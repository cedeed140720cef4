/** What is around every page: the navigation, the badge of the channel, the way out. */

import { h, replace, setMark } from "./dom.js";
import { freshnessBadge } from "./components/freshness.js";
import { Navigation } from "./components/navigation.js";
import { failure, outdated, pageSkeleton } from "./components/loading.js";
import { emptyState, page } from "./components/layout.js";
import { inWords } from "./api.js";
import { logo } from "./components/icon.js";
import { placeOf } from "./router.js";

const AWAY = "This page could not be loaded. Check the connection and try again.";
const OUTDATED = "This page could not be loaded. The dashboard may have been renewed since you opened it: reload it.";

export class Shell {
  /**
   * @param {import("./session.js").Session} session signed in
   * @param {readonly import("./router.js").Route[]} routes
   */
  constructor(session, routes) {
    const { live, channel } = session;
    if (live === null || channel === null) {
      throw new Error("A shell needs a session.");
    }
    this._session = session;
    this._live = live;
    this._channel = channel;
    this._routes = routes;
    this._end = new AbortController();
    /** Of the page that is shown. */
    this._left = new AbortController();
    /** @type {import("./router.js").Place | null} */
    this._place = null;
    this._allowed = true;
    this._known = false;
    this._wasOffline = false;
    this._main = h("main", { id: "main", class: "main", tabindex: "-1" }, pageSkeleton());
    this._navigation = new Navigation(session, routes, this._end.signal);
    this.element = this._frame();
  }

  _frame() {
    const { sidebar, bottomBar, themeButton } = this._navigation;
    const skip = h(
      "a",
      { class: "skip", href: "#main", onclick: (/** @type {Event} */ event) => this._skip(event) },
      "Skip to content",
    );
    const top = h(
      "header",
      { class: "topbar" },
      h("a", { class: "brand", href: "#/", "aria-label": "Gateway, overview" }, logo(), h("span", null, "Gateway")),
      freshnessBadge(this._live, this._end.signal),
      themeButton,
    );
    return h("div", { class: "shell" }, skip, top, sidebar, this._main, bottomBar);
  }

  /** Shows the page that the address names, and follows it. */
  enter() {
    const { signal } = this._end;
    window.addEventListener("hashchange", () => void this._open(true), { signal });
    this._live.document(() => this._changed(), signal);
    this._live.freshness((freshness) => this._fresh(freshness.state), signal);
  }

  /** Those who asked in vain while there was no connection ask again. @param {string} state */
  _fresh(state) {
    if (state === "live" && this._wasOffline) {
      document.dispatchEvent(new CustomEvent("live-again"));
    }
    this._wasOffline = state === "offline" || (this._wasOffline && state !== "live");
    setMark(this.element, "data-freshness", state);
  }

  /** Nothing of it listens any more. */
  leave() {
    this._left.abort();
    this._end.abort();
  }

  /** The own document came or changed: so may what somebody may see. */
  _changed() {
    this._navigation.update();
    const needs = this._place?.route.needs;
    if (!this._known || (needs !== undefined && needs(this._session) !== this._allowed)) {
      this._known = true;
      void this._open(false);
    }
  }

  /** @param {Event} event */
  _skip(event) {
    event.preventDefault();
    this._main.focus();
  }

  /** @param {boolean} byNavigation whether somebody went there: the focus follows */
  async _open(byNavigation) {
    if (!this._known) {
      return;
    }
    this._left.abort();
    const left = (this._left = new AbortController());
    const place = placeOf(this._routes, location.hash);
    this._place = place;
    this._allowed = place?.route.needs?.(this._session) ?? true;
    this._navigation.at(place);
    document.title = `${place?.route.title ?? "Not found"} · Gateway`;
    const element = await this._page(place, left.signal);
    if (!left.signal.aborted) {
      replace(this._main, element);
      window.scrollTo(0, 0);
      if (byNavigation) {
        this._main.querySelector("h1")?.focus();
      }
    }
  }

  /**
   * @param {import("./router.js").Place | null} place
   * @param {AbortSignal} signal
   * @returns {Promise<Node>}
   */
  async _page(place, signal) {
    if (place === null) {
      return page(
        "Not found",
        {},
        emptyState("overview", "There is no such page.", h("a", { href: "#/" }, "Overview")),
      );
    }
    if (!this._allowed) {
      return page(place.route.title, {}, emptyState("security", "You may not see this.", "Ask an administrator."));
    }
    let module;
    try {
      module = await place.route.load();
    } catch (error) {
      reportError(error);
      return this._notLoaded(place, signal, error);
    }
    try {
      return signal.aborted ? h("div") : module.mount(this._context(place, signal));
    } catch (error) {
      reportError(error);
      return this._failed(place, inWords(error));
    }
  }

  /**
   * Without a connection it can be tried again, and is when there is one. Else the module is gone, or wants of the
   * others what they do not have, because they are older: only all of them together are of one version.
   *
   * @param {import("./router.js").Place} place
   * @param {AbortSignal} signal
   * @param {unknown} error
   */
  _notLoaded(place, signal, error) {
    if (this._channel.freshness.state === "offline" && !(error instanceof SyntaxError)) {
      document.addEventListener("live-again", () => void this._open(false), { signal, once: true });
      return this._failed(place, AWAY);
    }
    return page(place.route.title, {}, outdated(OUTDATED));
  }

  /** @param {import("./router.js").Place} place @param {string} words */
  _failed(place, words) {
    return page(
      place.route.title,
      {},
      failure(words, () => void this._open(false)),
    );
  }

  /**
   * @param {import("./router.js").Place} place
   * @param {AbortSignal} signal
   * @returns {import("./app.js").Context}
   */
  _context(place, signal) {
    const { params, query } = place;
    const { api } = this._session;
    return { session: this._session, api, channel: this._channel, live: this._live, params, query, signal };
  }
}
