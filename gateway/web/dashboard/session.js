/**
 * Who is signed in: the browser's session with its cookies, and the channel that keeps what is shown true.
 *
 * The page never sees a token. It has the session's CSRF token, in memory, and asks for a ticket whenever the channel
 * needs one. Tabs tell each other by a `BroadcastChannel` when one of them signs in or out, or has renewed the session.
 */

import { Channel, Disconnected } from "/sdk/gateway.js";
import { Api, ApiError, inWords, send } from "./api.js";
import { Live } from "./live.js";
import { Tabs } from "./other_tabs.js";

/**
 * `starting`: not known yet; `unreachable`: the gateway does not answer, and is asked again; `signed-out`;
 * `signed-in`: there is a channel, which may still be connecting.
 *
 * @typedef {"starting" | "unreachable" | "signed-out" | "signed-in"} State
 */

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 15_000;
/** A wire that swallows everything is given up sooner than one that serves a large list slowly. */
const TICKET_TIMEOUT_MS = 8000;
/** A page that nobody looks at may wait with its ticket (`_worthIt`). */
const LONGEST_UNSEEN_MS = 86_400_000;
export const ENDED = {
  revoked: "Your session was ended: it was revoked, or your account was disabled.",
  expired: "Your session has ended. Sign in again to go on.",
  here: "You are signed out.",
  elsewhere: "You signed out in another tab.",
};

export class Session {
  constructor() {
    /** @type {State} */
    this.state = "starting";
    /** Why it is so, for people. @type {string | null} */
    this.notice = null;
    /** @type {Channel | null} */
    this.channel = null;
    /** @type {Live | null} */
    this.live = null;
    this.api = new Api({ csrf: () => this._csrf, renew: (askedAt) => this._renew(askedAt) });
    /** @type {string | null} */
    this._csrf = null;
    /** @type {Promise<boolean> | null} */
    this._renewing = null;
    this._renewedAt = -Infinity;
    this._turn = 0;
    /** What the end of the channel will be for, when it comes by somebody's wish. @type {string | null} */
    this._leaving = null;
    /** @type {Set<() => void>} */
    this._listeners = new Set();
    this._tabs = new Tabs((message) => this._heard(message));
  }

  /** What the own document says of the user; `null` before it came. @returns {any} */
  get identity() {
    return this.channel?.document.identity ?? null;
  }

  /**
   * Whether the user holds a permission; administrators hold all of them.
   *
   * @param {string} permission
   */
  may(permission) {
    return this.identity?.is_admin === true || this.channel?.can(permission) === true;
  }

  /** @param {() => void} callback called when `state` or `notice` changed */
  onChange(callback) {
    this._listeners.add(callback);
  }

  // --- beginning and end ---

  /** Finds out whether the browser has a session, and takes it up. */
  async start() {
    const turn = this._leave("starting", null);
    for (let waitMs = FIRST_WAIT_MS; turn === this._turn; waitMs = Math.min(2 * waitMs, LONGEST_WAIT_MS)) {
      try {
        const { body } = await send("GET", "/auth/csrf", {}, null);
        return turn === this._turn && this._enter(body.csrf_token, turn);
      } catch (error) {
        if (turn !== this._turn) {
          return;
        }
        if (error instanceof ApiError && error.status === 401) {
          this._set("signed-out", null);
          return;
        }
        this._set("unreachable", inWords(error));
      }
      await pause(waitMs);
    }
  }

  /**
   * Signs in.
   *
   * @param {string} name user name or e-mail address
   * @param {string} password
   * @throws {ApiError}
   */
  async signIn(name, password) {
    const who = name.includes("@") ? { email: name } : { username: name };
    const { body } = await send("POST", "/auth/login", { body: { ...who, password, cookie: true } }, null);
    this._tabs.tell({ kind: "signed-in" });
    this._enter(body.csrf_token, this._leave("starting", null));
  }

  /**
   * Signs out, in all tabs; with `everywhere` on all devices.
   *
   * @param {boolean} [everywhere]
   * @throws {ApiError} when the gateway did not do it: then the session goes on
   */
  async signOut(everywhere = false) {
    const turn = this._turn;
    this._leaving = ENDED.here;
    this._tabs.tell({ kind: "leaving" });
    try {
      await this.api.post("/auth/logout", { everywhere });
    } catch (error) {
      if (!(error instanceof ApiError) || (error.status !== 401 && turn === this._turn)) {
        this._leaving = null;
        this._tabs.tell({ kind: "staying" });
        throw error;
      }
    }
    this.signedOut();
  }

  /** What follows when the gateway has ended this session at the user's wish. */
  signedOut() {
    this._tabs.tell({ kind: "signed-out" });
    location.hash = "#/";
    this._end(ENDED.here);
  }

  /** @param {string} csrf @param {number} turn */
  _enter(csrf, turn) {
    this._csrf = csrf;
    this._renewedAt = performance.now();
    this._connect(turn, FIRST_WAIT_MS);
  }

  /**
   * Opens a channel. A ticket that came too late is no reason to give up: whether there is a session at all is said
   * when the next one is asked for.
   *
   * @param {number} turn
   * @param {number} waitMs
   */
  async _connect(turn, waitMs) {
    const channel = new Channel(null, () => this._ticket(turn), {
      client: { name: "dashboard", version: "1" },
      openTimeoutMs: null,
      tokenTimeoutMs: LONGEST_UNSEEN_MS,
    });
    this.channel = channel;
    this.live = new Live(channel);
    channel.on("ended", (/** @type {any} */ error) => this._ended(turn, error));
    try {
      await channel.open();
      this._known(turn);
    } catch {
      if (turn === this._turn) {
        const again = this._leave("starting", null);
        await pause(waitMs);
        if (again === this._turn) {
          await this._connect(again, Math.min(2 * waitMs, LONGEST_WAIT_MS));
        }
      }
    }
  }

  /** @param {number} turn @returns {Promise<string>} */
  async _ticket(turn) {
    await this._worthIt();
    const { ticket } = await this.api.post("/auth/ticket", {}, { timeoutMs: TICKET_TIMEOUT_MS }).catch(awayOrNot);
    this._known(turn);
    return ticket;
  }

  /**
   * A page that had to make room for another one of the same user, and that nobody sees, waits until it is looked at:
   * coming back it would throw out the next one, and so on without end.
   */
  async _worthIt() {
    const { channel } = this;
    while (document.hidden && channel?.freshness.reason === "replaced" && channel === this.channel) {
      await new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
    }
  }

  /** There is a session: the gateway has just served it. @param {number} turn */
  _known(turn) {
    if (turn === this._turn && this.state !== "signed-in") {
      this._set("signed-in", null);
    }
  }

  /** @param {number} turn @param {{code: string, message: string} | null | undefined} error */
  _ended(turn, error) {
    if (turn !== this._turn || !error || error.code === "closed") {
      return;
    }
    if (error.code === "revoked") {
      this._end(this._leaving ?? ENDED.revoked);
    } else if (error.code === "principal_changed") {
      void this.start();
    } else if (this.state === "signed-in" && !["auth_failed", "token_expired"].includes(error.code)) {
      this._leave("unreachable", `The live channel stopped: ${error.message}`);
    }
  }

  /** @param {string} notice */
  _end(notice) {
    this._leave("signed-out", notice);
    this._csrf = null;
    this._leaving = null;
  }

  /**
   * Lets go of the channel; whatever still belongs to it counts no more.
   *
   * @param {State} state
   * @param {string | null} notice
   */
  _leave(state, notice) {
    this._turn += 1;
    void this.channel?.close();
    this.live?.end();
    this.channel = null;
    this.live = null;
    this._set(state, notice);
    return this._turn;
  }

  /** @param {State} state @param {string | null} notice */
  _set(state, notice) {
    this.state = state;
    this.notice = notice;
    this._listeners.forEach((callback) => callback());
  }

  // --- renewal ---

  /** @param {number} askedAt @returns {Promise<boolean>} */
  _renew(askedAt) {
    if (this._csrf === null) {
      return Promise.resolve(false);
    }
    this._renewing ??= this._renewInTurn(askedAt).finally(() => {
      this._renewing = null;
    });
    return this._renewing;
  }

  /** One tab renews at a time; those that waited find it done. @param {number} askedAt @returns {Promise<boolean>} */
  async _renewInTurn(askedAt) {
    const renew = () => (this._renewedAt > askedAt ? Promise.resolve(true) : this._refresh(this._turn));
    return navigator.locks ? navigator.locks.request("gateway-refresh", renew) : renew();
  }

  /** @param {number} turn @param {boolean} [again] @returns {Promise<boolean>} */
  async _refresh(turn, again = true) {
    try {
      const { body } = await send("POST", "/auth/refresh", { body: {} }, this._csrf);
      this._renewed(body.csrf_token);
      this._tabs.tell({ kind: "renewed", csrf: body.csrf_token });
      return true;
    } catch (error) {
      if (!(error instanceof ApiError) || ![401, 403].includes(error.status)) {
        throw error;
      }
      if (error.status === 403 && again && turn === this._turn) {
        return this._refreshWithNewCsrf(turn);
      }
      if (turn === this._turn) {
        this._end(ENDED.expired);
      }
      return false;
    }
  }

  /** The CSRF token may be older than what it is good for. @param {number} turn @returns {Promise<boolean>} */
  async _refreshWithNewCsrf(turn) {
    const { body } = await send("GET", "/auth/csrf", {}, null);
    this._csrf = body.csrf_token;
    return this._refresh(turn, false);
  }

  /** @param {string} csrf */
  _renewed(csrf) {
    this._csrf = csrf;
    this._renewedAt = performance.now();
  }

  /** @param {import("./other_tabs.js").Message} message from another tab */
  _heard(message) {
    if (message.kind === "signed-in") {
      void this.start();
    } else if (message.kind === "signed-out" && this.state !== "signed-out") {
      this._end(ENDED.elsewhere);
    } else if (message.kind === "leaving" || message.kind === "staying") {
      this._leaving = message.kind === "leaving" ? ENDED.elsewhere : null;
    } else if (message.kind === "renewed" && this._csrf !== null) {
      this._renewed(message.csrf);
    }
  }
}

/**
 * Tells the channel a gateway that is away from one that gives no ticket.
 *
 * @param {unknown} error
 * @returns {never}
 */
function awayOrNot(error) {
  if (error instanceof ApiError && (error.status === 0 || error.status === 503)) {
    throw new Disconnected(error.message, { retryAfterS: error.retryAfterS, cause: error });
  }
  throw error;
}

/** @param {number} ms @returns {Promise<void>} */
function pause(ms) {
  return new Promise((done) => setTimeout(done, ms));
}
