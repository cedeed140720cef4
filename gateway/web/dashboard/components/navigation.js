/** The ways through the dashboard: a bar at the side, and on a phone one at the bottom and a drawer. */

import { h, setMark, setShown, setText } from "../dom.js";
import { initials } from "../format.js";
import { chooseTheme, chosenTheme, nextTheme } from "../theme.js";
import { acting, iconButton } from "./button.js";
import { icon, logo } from "./icon.js";

/** @typedef {import("../router.js").Route} Route */

const THEME_ICONS = /** @type {const} */ ({ system: "system", light: "sun", dark: "moon" });
const THEME_NAMES = { system: "Theme of the system", light: "Light theme", dark: "Dark theme" };

export class Navigation {
  /**
   * @param {import("../session.js").Session} session
   * @param {readonly Route[]} routes
   * @param {AbortSignal} signal
   */
  constructor(session, routes, signal) {
    this._session = session;
    this._signal = signal;
    this._routes = routes.filter((route) => route.icon !== undefined);
    /** @type {[HTMLAnchorElement, Route][]} */
    this._links = [];
    this._admin = h("div", { class: "nav-group", hidden: true });
    this._name = h("span", { class: "user-name" });
    this._username = h("span", { class: "user-username" });
    this._avatar = h("span", { class: "avatar", "aria-hidden": "true" });
    /** @type {HTMLDialogElement | null} */
    this._drawer = null;
    this.themeButton = this._makeTheme();
    this._content = this._makeContent();
    this.sidebar = h("aside", { class: "sidebar", "aria-label": "Navigation and account" }, this._content);
    this.bottomBar = this._makeBottomBar();
  }

  /** The own document changed. */
  update() {
    const { identity } = this._session;
    setText(this._name, identity.name || identity.username);
    setText(this._username, `@${identity.username}`);
    setText(this._avatar, initials(identity.name || identity.username));
    for (const [link, route] of this._links) {
      setShown(link, route.needs?.(this._session) ?? true);
    }
    const seen = [...this._admin.querySelectorAll("a")].some((link) => !link.hidden);
    setShown(this._admin, seen);
  }

  /** @param {import("../router.js").Place | null} place where somebody is now */
  at(place) {
    for (const [link, route] of this._links) {
      const here = place?.path === route.path;
      const below = route.path !== "/" && place?.path.startsWith(`${route.path}/`);
      setMark(link, "aria-current", here ? "page" : below ? "true" : null);
    }
    this._drawer?.close();
  }

  _makeContent() {
    const own = this._routes.filter((route) => route.group === undefined).map((route) => this._link(route));
    const admin = this._routes.filter((route) => route.group === "admin").map((route) => this._link(route));
    this._admin.append(h("p", { class: "nav-title" }, "Administration"), ...admin);
    return h(
      "div",
      { class: "sidebar-content" },
      h("a", { class: "brand", href: "#/", "aria-label": "Gateway, overview" }, logo(), h("span", null, "Gateway")),
      h("nav", { class: "nav", "aria-label": "Main" }, h("div", { class: "nav-group" }, own), this._admin),
      this._makeUser(),
    );
  }

  _makeUser() {
    const out = iconButton(
      "signOut",
      "Sign out",
      (event) => {
        void acting(/** @type {HTMLButtonElement} */ (event.currentTarget), () => this._session.signOut());
      },
      "sign-out",
    );
    return h(
      "div",
      { class: "user" },
      h(
        "a",
        { class: "user-link", href: "#/account", test: "user-menu" },
        this._avatar,
        h("span", { class: "user-text" }, this._name, this._username),
      ),
      out,
    );
  }

  _makeTheme() {
    const made = h("button", {
      type: "button",
      class: "icon-button",
      test: "theme",
      onclick: () => chooseTheme(nextTheme()),
    });
    const draw = () => {
      made.replaceChildren(icon(THEME_ICONS[chosenTheme()]));
      setMark(made, "aria-label", THEME_NAMES[chosenTheme()]);
      setMark(made, "title", THEME_NAMES[chosenTheme()]);
    };
    document.addEventListener("theme", draw, { signal: this._signal });
    draw();
    return made;
  }

  _makeBottomBar() {
    const own = this._routes.filter((route) => route.group === undefined).map((route) => this._link(route, true));
    const more = h(
      "button",
      { type: "button", class: "bottombar-item", "aria-haspopup": "dialog", onclick: () => this._openDrawer() },
      icon("more"),
      h("span", null, "More"),
    );
    return h("nav", { class: "bottombar", "aria-label": "Quick" }, own, more);
  }

  /** @param {Route} route @param {boolean} [short] */
  _link(route, short = false) {
    const link = h(
      "a",
      { class: short ? "bottombar-item" : "nav-item", href: `#${route.path}` },
      icon(/** @type {import("./icon.js").IconName} */ (route.icon)),
      h("span", null, short ? (route.short ?? route.title) : route.title),
    );
    this._links.push([link, route]);
    return link;
  }

  /** What stands at the side on a wide screen, over the page on a narrow one. */
  _openDrawer() {
    const close = iconButton("close", "Close menu", () => drawer.close());
    const drawer = h("dialog", { class: "drawer", "aria-label": "Menu" }, close, this._content);
    const onclick = (/** @type {Event} */ event) => event.target === drawer && drawer.close();
    drawer.addEventListener("click", onclick);
    drawer.addEventListener("close", () => {
      this.sidebar.append(this._content);
      drawer.remove();
      this._drawer = null;
    });
    this._signal.addEventListener("abort", () => drawer.close(), { once: true });
    this._drawer = drawer;
    document.body.append(drawer);
    drawer.showModal();
  }
}
