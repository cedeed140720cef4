/** The gateway's HTTP API, with the cookies of the browser's session. */

import { noteDate } from "./clock.js";

/** An answer that is a failure, or none at all (`status` 0). `detail` is a sentence for people. */
export class ApiError extends Error {
  /**
   * @param {number} status of HTTP; 0 without an answer
   * @param {string} code the gateway's stable word
   * @param {string} detail
   * @param {number | null} [retryAfterS] seconds
   */
  constructor(status, code, detail, retryAfterS = null) {
    super(detail);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
    this.detail = detail;
    this.retryAfterS = retryAfterS;
  }

  /** Whether the same request may succeed later. */
  get passing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

/**
 * What a request needs of the session.
 *
 * @typedef {object} Credentials
 * @property {() => string | null} csrf the token that goes with writes
 * @property {(askedAt: number) => Promise<boolean>} renew makes the session good again after a 401 of a request that
 *   was begun at `askedAt` (`performance.now()`); false: there is none any more
 */

/**
 * @typedef {object} Answer
 * @property {any} body the JSON of it
 * @property {string | null} etag
 * @property {number} status
 */

/**
 * @typedef {object} Options
 * @property {unknown} [body] sent as JSON
 * @property {Record<string, any>} [query] members that are `null`, `undefined` or "" are left out
 * @property {string | null} [ifMatch] the `ETag` that has to stand there still
 * @property {AbortSignal} [signal]
 * @property {number} [timeoutMs] default 30,000
 * @property {boolean} [text] whether the answer is a text and not JSON
 */

/**
 * Where something stands: a constant path, or its parts, the first of which is one. What comes from outside is always a
 * part of its own.
 *
 * @typedef {string | readonly string[]} Path
 */

const TIMEOUT_MS = 30_000;
/** What may stand in a path for the name of something; the gateway finds nothing that is called otherwise. */
const SEGMENT = /^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$/;
const NO_GATEWAY = "What answered was not the gateway: it sent a page and no data. Something may stand in between.";
const NO_ANSWER = "The gateway can not be reached. Check the connection and try again.";

export class Api {
  /** @param {Credentials} credentials */
  constructor(credentials) {
    this._credentials = credentials;
  }

  /** @param {Path} path @param {Options} [options] @returns {Promise<any>} the body */
  async get(path, options) {
    return (await this.request("GET", path, options)).body;
  }

  /** @param {Path} path @param {unknown} [body] @param {Options} [options] @returns {Promise<any>} the body */
  async post(path, body = {}, options) {
    return (await this.request("POST", path, { ...options, body })).body;
  }

  /** @param {Path} path @param {unknown} body @param {Options} [options] @returns {Promise<any>} the body */
  async put(path, body, options) {
    return (await this.request("PUT", path, { ...options, body })).body;
  }

  /** @param {Path} path @param {unknown} body @param {Options} [options] @returns {Promise<any>} the body */
  async patch(path, body, options) {
    return (await this.request("PATCH", path, { ...options, body })).body;
  }

  /** @param {Path} path @param {Options} [options] @returns {Promise<any>} the body */
  async delete(path, options) {
    return (await this.request("DELETE", path, options)).body;
  }

  /**
   * All items of a list that pages by cursor, `most` at the most.
   *
   * @param {Path} path
   * @param {Options} [options]
   * @param {number} [most]
   * @returns {Promise<any[]>}
   */
  async all(path, options = {}, most = 1000) {
    const items = [];
    let cursor = null;
    do {
      const query = { limit: 200, ...options.query, cursor };
      const page = await this.get(path, { ...options, query });
      items.push(...page.items);
      cursor = page.next;
    } while (cursor !== null && items.length < most);
    return items;
  }

  /**
   * Asks, and once more when the session had to be renewed first.
   *
   * @param {string} method
   * @param {Path} path
   * @param {Options} [options]
   * @returns {Promise<Answer>}
   * @throws {ApiError}
   */
  async request(method, path, options = {}) {
    const askedAt = performance.now();
    try {
      return await send(method, path, options, this._credentials.csrf());
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 401 || !(await this._credentials.renew(askedAt))) {
        throw error;
      }
      return send(method, path, options, this._credentials.csrf());
    }
  }
}

/**
 * Asks once.
 *
 * @param {string} method
 * @param {Path} path
 * @param {Options} options
 * @param {string | null} csrf
 * @returns {Promise<Answer>}
 * @throws {ApiError}
 */
export async function send(method, path, options, csrf) {
  /** @type {Record<string, string>} */
  const headers = { Accept: "application/json" };
  if (csrf !== null && method !== "GET") {
    headers["X-CSRF-Token"] = csrf;
  }
  if (options.ifMatch) {
    headers["If-Match"] = options.ifMatch;
  }
  const init = { method, headers, signal: signalOf(options), credentials: /** @type {const} */ ("same-origin") };
  if (options.body !== undefined) {
    headers["Content-Type"] = "application/json";
    Object.assign(init, { body: JSON.stringify(options.body) });
  }
  const address = addressOf(path, method) + queryOf(options.query);
  const askedAt = Date.now();
  const response = await reached(fetch(address, init), options.signal);
  noteDate(response.headers.get("Date"), askedAt);
  const body = await reached(bodyOf(response), options.signal);
  if (!response.ok) {
    throw problemOf(response, body);
  }
  if (typeof body === "string" && body !== "" && !options.text) {
    throw new ApiError(0, "not_json", NO_GATEWAY);
  }
  return { body, etag: response.headers.get("ETag"), status: response.status };
}

/**
 * The path that is asked for. A part that is no name of the gateway's would be lost in it, or lead elsewhere: `..` to
 * what stands above.
 *
 * @param {Path} path
 * @param {string} method
 * @throws {ApiError}
 */
function addressOf(path, method) {
  if (typeof path === "string") {
    return path;
  }
  const [first, ...names] = path;
  const wrong = names.find((name) => !SEGMENT.test(name));
  if (wrong === undefined) {
    return [first, ...names.map(encodeURIComponent)].join("/");
  }
  const called = `“${wrong.length > 64 ? `${wrong.slice(0, 64)}…` : wrong}”`;
  throw method === "GET"
    ? new ApiError(404, "not_found", `Not found: nothing that is called ${called} can be shown here.`)
    : new ApiError(422, "invalid", `What is called ${called} can not be changed here; by SQL it can.`);
}

/** @param {Options} options */
function signalOf(options) {
  const limit = AbortSignal.timeout(options.timeoutMs ?? TIMEOUT_MS);
  return options.signal === undefined ? limit : AbortSignal.any([limit, options.signal]);
}

/** @param {Record<string, any> | undefined} query */
function queryOf(query) {
  const given = Object.entries(query ?? {}).filter(
    ([, value]) => value !== null && value !== undefined && value !== "",
  );
  return given.length === 0 ? "" : `?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}`;
}

/**
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal | undefined} signal
 * @returns {Promise<T>}
 */
async function reached(promise, signal) {
  try {
    return await promise;
  } catch (error) {
    if (signal?.aborted) {
      throw error;
    }
    throw new ApiError(0, "unreachable", NO_ANSWER);
  }
}

/** @param {Response} response */
async function bodyOf(response) {
  const text = await response.text();
  try {
    return /json/.test(response.headers.get("Content-Type") ?? "") ? JSON.parse(text) : text;
  } catch {
    return text;
  }
}

/** @param {Response} response @param {any} body */
function problemOf(response, body) {
  const problem = typeof body === "object" && body !== null ? body : {};
  const detail = problem.detail ?? problem.title ?? `The gateway answered with ${response.status}.`;
  return new ApiError(
    response.status,
    String(problem.code ?? "unknown"),
    String(detail),
    problem.retry_after_s ?? null,
  );
}

/**
 * What to tell people about an error.
 *
 * @param {unknown} error
 * @returns {string}
 */
export function inWords(error) {
  if (error instanceof ApiError) {
    const wait = error.retryAfterS === null ? "" : ` Try again in ${Math.ceil(error.retryAfterS)} s.`;
    return error.detail + wait;
  }
  return error instanceof Error && error.message !== "" ? error.message : "Something went wrong in this page.";
}
