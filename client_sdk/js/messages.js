/**
 * What the gateway sends: the fields of each message, and how each field is read.
 *
 * A field of the wrong type makes the whole frame malformed, even one that nobody asks for. Numbers that JSON tells
 * apart only by how they are written (1 and 1.0) are the same here.
 */

import { MalformedMessage } from "./errors.js";

/** @typedef {import("./document.js").Data} Data */

/**
 * @typedef {object} Hello The first message, always. Times in seconds.
 * @property {"hello"} op
 * @property {number} protocol
 * @property {string} node
 * @property {string} epoch
 * @property {string} serverTime
 * @property {number} heartbeatS
 * @property {number} authTimeoutS
 * @property {number} maxFrameBytes
 * @property {readonly string[]} features
 */
/**
 * @typedef {object} Ready Authenticated. `expiresAt` is null for a credential without end.
 * @property {"ready"} op
 * @property {string} session
 * @property {string} principal
 * @property {string | null} expiresAt
 * @property {string | null} id
 */
/**
 * @typedef {{op: "snapshot", doc: string, rev: string, seq: number, data: Data}} Snapshot A whole document, exact up to
 *   position `seq` of the change log.
 */
/**
 * @typedef {object} Update A merge patch (RFC 7396) from revision `from` to `rev`.
 * @property {"update"} op
 * @property {string} doc
 * @property {string} from
 * @property {string} rev
 * @property {number} seq
 * @property {Data} patch
 * @property {readonly string[]} causes
 */
/**
 * @typedef {{op: "current", doc: string, rev: string, seq: number}} Current The revision that the client named is still
 *   the right one.
 */
/** @typedef {{op: "gone", doc: string, reason: string}} Gone The document is no longer watched. */
/**
 * @typedef {object} Reply A request succeeded. `docs` and `doc` tell of documents, `quota` to `seq` of the balance that
 *   spending left, the others of a lease.
 * @property {"reply"} op
 * @property {string} id
 * @property {readonly string[]} docs
 * @property {string | null} doc
 * @property {string} quota
 * @property {string | null} org
 * @property {number | null} limit
 * @property {number} used
 * @property {number} reserved
 * @property {number | null} remaining
 * @property {string} period
 * @property {boolean} hard
 * @property {string | null} resetsAt
 * @property {string} level
 * @property {number | null} cap
 * @property {number | null} capRemaining
 * @property {number} seq
 * @property {string | null} lease
 * @property {number} held
 * @property {string | null} expiresAt
 * @property {string | null} state
 * @property {number | null} committed
 */
/**
 * @typedef {object} ErrorMessage A request failed; the connection lives on.
 * @property {"error"} op
 * @property {string} code
 * @property {string} message
 * @property {string | null} id
 * @property {string | null} doc
 * @property {number | null} retryAfterS
 * @property {string | null} quota
 * @property {number | null} remaining
 * @property {string | null} resetsAt
 */
/** @typedef {{op: "expiring", expiresAt: string}} Expiring The credential ends soon. */
/**
 * @typedef {{op: "status", store: string, since: string, ageS: number, doc: string | null}} Status What the client
 *   holds may be old (`stale`), or is true again (`fresh`); with `doc` it speaks of that document alone.
 */
/**
 * @typedef {{op: "pong", id: string | null, serverTime: string, revs: ReadonlyMap<string, string>}} Pong The answer to
 *   a ping, with the revisions that the gateway sent last.
 */
/**
 * @typedef {{op: "ended", code: string, message: string, reconnect: string, retryAfterS: number | null}} Ended The last
 *   message before a close that the gateway decides.
 */
/**
 * @typedef {Hello | Ready | Snapshot | Update | Current | Gone | Reply | ErrorMessage | Expiring | Status | Pong |
 *   Ended} ServerMessage
 */

// --- how a field is read ---------------------------------------------------------------------------------------------

/**
 * @typedef {object} Kind What a value has to be, in words, and what is made of it.
 * @property {string} is
 * @property {(value: unknown) => boolean} holds
 * @property {(value: any) => unknown} [make]
 */
/**
 * @typedef {object} Field
 * @property {string} as its name in JavaScript
 * @property {(message: Record<string, unknown>, name: string) => unknown} read
 */

/** @param {unknown} value */
const isText = (value) => typeof value === "string";
/** @param {unknown} value */
const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/** @type {Kind} */
const text = { is: "a text", holds: isText };
/** @type {Kind} */
const integer = { is: "an integer", holds: Number.isInteger };
/** @type {Kind} */
const number = { is: "a number", holds: Number.isFinite };
/** @type {Kind} */
const truth = { is: "true or false", holds: (value) => typeof value === "boolean" };
/** @type {Kind} */
const texts = {
  is: "a list of texts",
  holds: (value) => Array.isArray(value) && value.every(isText),
  make: Object.freeze,
};
/** @type {Kind} */
const data = { is: "an object whose numbers are finite", holds: (value) => isObject(value) && isFinite(value) };
/** @type {Kind} */
const textsByName = {
  is: "an object of texts",
  holds: (value) => isObject(value) && Object.values(/** @type {object} */ (value)).every(isText),
  make: (value) => new Map(Object.entries(value)),
};

/**
 * Whether every number is one that JSON can hold: 1e400 is read as infinite.
 * @param {unknown} value
 * @returns {boolean}
 */
function isFinite(value) {
  if (typeof value === "number") {
    return Number.isFinite(value);
  }
  return value === null || typeof value !== "object" || Object.values(value).every(isFinite);
}

/**
 * @param {Kind} kind
 * @param {Record<string, unknown>} message
 * @param {string} name
 */
function checked(kind, message, name) {
  const value = Object.hasOwn(message, name) ? message[name] : undefined;
  if (!kind.holds(value)) {
    throw new MalformedMessage(`not a valid message: ${name} is ${kind.is}`);
  }
  return kind.make === undefined ? value : kind.make(value);
}

/**
 * A field that is always there.
 * @param {Kind} kind
 * @returns {Pick<Field, "read">}
 */
const required = (kind) => ({ read: (message, name) => checked(kind, message, name) });

/**
 * A field that may be absent.
 * @param {Kind} kind
 * @param {unknown} fallback
 * @returns {Pick<Field, "read">}
 */
const optional = (kind, fallback) => ({
  read: (message, name) => (Object.hasOwn(message, name) ? checked(kind, message, name) : fallback),
});

/**
 * A field that may be absent, or null.
 * @param {Kind} kind
 * @returns {Pick<Field, "read">}
 */
const nullable = (kind) => ({
  read: (message, name) =>
    Object.hasOwn(message, name) && message[name] !== null ? checked(kind, message, name) : null,
});

/**
 * @param {Record<string, Pick<Field, "read">>} fields
 * @returns {Readonly<Record<string, Field>>}
 */
function message(fields) {
  const named = Object.entries(fields).map(([name, field]) => [name, { ...field, as: inJavaScript(name) }]);
  return Object.freeze(Object.fromEntries(named));
}

/** @param {string} name */
const inJavaScript = (name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());

const balance = {
  quota: optional(text, ""),
  org: nullable(text),
  limit: nullable(integer),
  used: optional(integer, 0),
  reserved: optional(integer, 0),
  remaining: nullable(integer),
  period: optional(text, ""),
  hard: optional(truth, false),
  resets_at: nullable(text),
  level: optional(text, "ok"),
  cap: nullable(integer),
  cap_remaining: nullable(integer),
  seq: optional(integer, 0),
};

const lease = {
  lease: nullable(text),
  held: optional(integer, 0),
  expires_at: nullable(text),
  state: nullable(text),
  committed: nullable(integer),
};

/**
 * The fields of every message, by its operation.
 * @type {ReadonlyMap<string, Readonly<Record<string, Field>>>}
 */
export const MESSAGES = new Map([
  [
    "hello",
    message({
      protocol: required(integer),
      node: required(text),
      epoch: required(text),
      server_time: required(text),
      heartbeat_s: required(number),
      auth_timeout_s: required(number),
      max_frame_bytes: required(integer),
      features: optional(texts, Object.freeze([])),
    }),
  ],
  [
    "ready",
    message({ session: required(text), principal: required(text), expires_at: nullable(text), id: nullable(text) }),
  ],
  ["snapshot", message({ doc: required(text), rev: required(text), seq: required(integer), data: required(data) })],
  [
    "update",
    message({
      doc: required(text),
      from: required(text),
      rev: required(text),
      seq: required(integer),
      patch: required(data),
      causes: optional(texts, Object.freeze([])),
    }),
  ],
  ["current", message({ doc: required(text), rev: required(text), seq: required(integer) })],
  ["gone", message({ doc: required(text), reason: optional(text, "") })],
  [
    "reply",
    message({
      id: required(text),
      docs: optional(texts, Object.freeze([])),
      doc: nullable(text),
      ...balance,
      ...lease,
    }),
  ],
  [
    "error",
    message({
      code: required(text),
      message: optional(text, ""),
      id: nullable(text),
      doc: nullable(text),
      retry_after_s: nullable(number),
      quota: nullable(text),
      remaining: nullable(integer),
      resets_at: nullable(text),
    }),
  ],
  ["expiring", message({ expires_at: required(text) })],
  [
    "status",
    message({
      store: required(text),
      since: optional(text, ""),
      age_s: optional(number, 0),
      doc: nullable(text),
    }),
  ],
  ["pong", message({ id: nullable(text), server_time: optional(text, ""), revs: optional(textsByName, new Map()) })],
  [
    "ended",
    message({
      code: required(text),
      message: optional(text, ""),
      reconnect: optional(text, "later"),
      retry_after_s: nullable(number),
    }),
  ],
]);
