/**
 * The channel's address: of an `http(s)` or `ws(s)` URL (without a path: `/ws`), or of the page's own origin.
 * @param {string | URL | null} server
 * @param {string | null} origin the page's own, null where there is no page
 * @returns {string}
 * @throws {TypeError} it is no address of a gateway
 */
export function channelUrl(server: string | URL | null, origin: string | null): string;
