/** Where in the dashboard somebody is: the part of the address after `#`. */

/**
 * @typedef {object} Page
 * @property {(context: import("./app.js").Context) => Node} mount makes the page
 */

/**
 * @typedef {object} Route
 * @property {string} path `/admin/users/:id`: a part that begins with `:` is a parameter
 * @property {string} title
 * @property {() => Promise<Page>} load
 * @property {import("./components/icon.js").IconName} [icon] with an icon it stands in the navigation
 * @property {string} [short] its name where there is little room
 * @property {"admin"} [group] the part of the navigation; absent: the user's own
 * @property {(session: import("./session.js").Session) => boolean} [needs] whether somebody may see it;
 *   absent: everybody
 */

/** @typedef {{route: Route, path: string, params: Record<string, string>, query: URLSearchParams}} Place */

/**
 * The link to a place: `link("admin", "users", id)` is `#/admin/users/ID`.
 *
 * @param {...string} parts
 */
export function link(...parts) {
  return `#/${parts.map(encodeURIComponent).join("/")}`;
}

/** @param {string} href a link of `link` */
export function go(href) {
  location.hash = href;
}

/**
 * The place that an address names; `null`: there is none.
 *
 * @param {readonly Route[]} routes
 * @param {string} hash
 * @returns {Place | null}
 */
export function placeOf(routes, hash) {
  const [path, query = ""] = hash.replace(/^#?\/?/, "/").split("?", 2);
  const parts = path.split("/").slice(1);
  for (const route of routes) {
    const params = paramsOf(route.path.split("/").slice(1), parts);
    if (params !== null) {
      return { route, path, params, query: new URLSearchParams(query) };
    }
  }
  return null;
}

/**
 * @param {string[]} pattern
 * @param {string[]} parts
 * @returns {Record<string, string> | null}
 */
function paramsOf(pattern, parts) {
  if (pattern.length !== parts.length) {
    return null;
  }
  /** @type {Record<string, string>} */
  const params = {};
  for (const [index, name] of pattern.entries()) {
    const part = decoded(parts[index]);
    if (part === null || (name.startsWith(":") ? part === "" : name !== part)) {
      return null;
    }
    if (name.startsWith(":")) {
      params[name.slice(1)] = part;
    }
  }
  return params;
}

/** @param {string} part */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return null;
  }
}
