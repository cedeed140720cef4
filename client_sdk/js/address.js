/** Where the channel is. */

const CHANNEL_PATH = "/ws";
/** @type {Record<string, string>} */
const SCHEMES = { "http:": "ws:", "https:": "wss:", "ws:": "ws:", "wss:": "wss:" };

/**
 * The channel's address: of an `http(s)` or `ws(s)` URL (without a path: `/ws`), or of the page's own origin.
 * @param {string | URL | null} server
 * @param {string | null} origin the page's own, null where there is no page
 * @returns {string}
 * @throws {TypeError} it is no address of a gateway
 */
export function channelUrl(server, origin) {
  const given = server ?? origin;
  if (given === null) {
    throw new TypeError("there is no page here whose origin could be the gateway: name the server");
  }
  const url = parsed(String(given));
  const scheme = SCHEMES[url?.protocol ?? ""];
  if (url === null || scheme === undefined || url.hostname === "" || url.username !== "" || url.password !== "") {
    throw new TypeError(`${JSON.stringify(String(given))} is no address of a gateway`);
  }
  return `${scheme}//${url.host}${url.pathname === "/" ? CHANNEL_PATH : url.pathname}${url.search}`;
}

/**
 * @param {string} text
 * @returns {URL | null}
 */
function parsed(text) {
  try {
    return new URL(text);
  } catch {
    return null;
  }
}
