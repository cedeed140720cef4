/** How a session behaves. */

/** @typedef {{name: string, version: string}} ClientInfo What a client says of itself; for the gateway's logs only. */

/**
 * How a session behaves. Times in milliseconds.
 * @typedef {object} Options
 * @property {readonly string[]} watch the documents to watch from the start
 * @property {ClientInfo | null} client what to say of oneself in the first message
 * @property {boolean} verify compute the revision of every copy
 * @property {number} backoffBaseMs see `Backoff`
 * @property {number} backoffCapMs see `Backoff`
 * @property {number} stableMs how long a session must have been live to count as healthy
 * @property {number} tokenTimeoutMs how long the token provider may take
 * @property {number} connectTimeoutMs how long the handshake may take
 * @property {number} greetingTimeoutMs how long the gateway may take to say ready
 * @property {number | null} pingIntervalMs null means as often as the gateway's own heartbeat
 * @property {number} pongTimeoutMs how long the answer to a ping may take
 * @property {number} requestTimeoutMs how long the answer to a request may take
 */

/** @typedef {Partial<Options>} SessionOptions */

/** @type {Readonly<Options>} */
const DEFAULTS = Object.freeze({
  watch: Object.freeze(["self"]),
  client: null,
  verify: true,
  backoffBaseMs: 250,
  backoffCapMs: 30_000,
  stableMs: 5_000,
  tokenTimeoutMs: 30_000,
  connectTimeoutMs: 10_000,
  greetingTimeoutMs: 10_000,
  pingIntervalMs: null,
  pongTimeoutMs: 10_000,
  requestTimeoutMs: 10_000,
});

/**
 * Check the options, and add those that are not given; one that is undefined is not given.
 * @param {SessionOptions} [fields]
 * @returns {Readonly<Options>}
 * @throws {TypeError} one is unknown or has a bad value
 */
export function makeOptions(fields = {}) {
  const given = Object.entries(fields).filter(([, value]) => value !== undefined);
  for (const [name, value] of given) {
    if (!Object.hasOwn(DEFAULTS, name)) {
      throw new TypeError(`a channel's options: there is none of the name ${name}`);
    }
    check(name, value);
  }
  const options = /** @type {Options} */ ({ ...DEFAULTS, ...Object.fromEntries(given) });
  return Object.freeze({ ...options, watch: Object.freeze([...options.watch]) });
}

/**
 * @param {string} name
 * @param {unknown} value
 */
function check(name, value) {
  const problem = name === "pingIntervalMs" && value === null ? null : problemOf(name, value);
  if (problem !== null) {
    throw new TypeError(`a channel's options: ${name} ${problem}`);
  }
}

/**
 * @param {string} name
 * @param {unknown} value
 * @returns {string | null}
 */
function problemOf(name, value) {
  switch (name) {
    case "watch":
      if (!Array.isArray(value) || !value.every((doc) => typeof doc === "string")) {
        return "is a list of documents";
      }
      return value.length > 0 ? null : "names at least one document";
    case "client":
      return value === null || isClientInfo(value) ? null : "has a name and a version, both texts";
    case "verify":
      return typeof value === "boolean" ? null : "is true or false";
    default:
      return typeof value === "number" && value > 0 ? null : "is a positive number of milliseconds";
  }
}

/** @param {unknown} value */
function isClientInfo(value) {
  const { name, version } = /** @type {any} */ (value) ?? {};
  return typeof name === "string" && typeof version === "string";
}
