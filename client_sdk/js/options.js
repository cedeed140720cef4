/** How a session behaves. */

import { checkedMs, checkedName } from "./keys.js";
import { documentNames } from "./names.js";

// Characters of what a client says of itself, at the most.
const LONGEST_CLIENT = 64;

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

/**
 * @typedef {Partial<Omit<Options, "watch">> & {watch?: string | Iterable<string>}} SessionOptions What of that may be
 *   given: all of it, and `watch` as one name too.
 */

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
  for (const [name] of given) {
    if (!Object.hasOwn(DEFAULTS, name)) {
      throw new TypeError(`a channel's options: there is none of the name ${name}`);
    }
  }
  const checked = given.map(([name, value]) => [name, read(name, value)]);
  return Object.freeze({ ...DEFAULTS, ...Object.fromEntries(checked) });
}

/**
 * @param {string} name
 * @param {any} value
 * @returns {unknown} what it stands for
 */
function read(name, value) {
  if (value === null && (name === "client" || name === "pingIntervalMs")) {
    return null;
  }
  switch (name) {
    case "watch":
      return documentNames(value);
    case "client":
      return Object.freeze({
        name: checkedName("the name of a client", value.name, LONGEST_CLIENT),
        version: checkedName("the version of a client", value.version, LONGEST_CLIENT),
      });
    case "verify":
      if (typeof value !== "boolean") {
        throw new TypeError("a channel's options: verify is true or false");
      }
      return value;
    default:
      return checkedMs(`a channel's options: ${name}`, value);
  }
}
