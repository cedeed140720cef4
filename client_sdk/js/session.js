/**
 * The channel's protocol without input or output: events in, effects out, time and chance as arguments.
 *
 * `Session.handle` takes one event, the time of a monotonic clock in milliseconds, and a random number in [0, 1); it
 * returns what to do. `deadline` is the time at which a `tick` is due. Whoever drives it performs the effects in order
 * and feeds back what comes of them; nothing else.
 *
 *     IDLE ──start──▶ ASKING ──token──▶ CONNECTING ──opened──▶ GREETING ──ready──▶ LIVE
 *                      ▲  │                 │                      │                │
 *         the wait is  │  │ no token,       │ lost, too long       │ ended, lost,   │ ended, lost,
 *         over         │  ▼ refused token   ▼                      ▼ too long       ▼ no pong
 *                     WAITING ◀─────────────┴──────────────────────┴────────────────┘
 *
 *     any of them ──stop, or an end that says never──▶ STOPPED
 *
 * The token is asked for before every connection, and travels in the first message: a page can not set the headers of
 * a handshake. What is watched and held survives a connection: the next one resumes from the revisions held.
 *
 * The digest that proves a copy can only be computed asynchronously. So whoever drives the session asks `candidate`
 * before each frame, and hands the proof over with the frame.
 */

import { Conversation } from "./conversation.js";
import { Credential, Renewal } from "./credential.js";
import { Disconnected, MalformedMessage, TokenUnavailable, requestError } from "./errors.js";
import { FreshnessMeter } from "./freshness.js";
import { Backoff, Reconnect, endOfClose, endOfMessage, malformed, silent, somebodyElse } from "./reconnect.js";
import { SUBPROTOCOL, decode } from "./wire.js";

/** @typedef {import("./events.js").Effect} Effect */
/** @typedef {import("./events.js").Event} Event */
/** @typedef {import("./events.js").Received} Received */
/** @typedef {import("./events.js").Request} Request */
/** @typedef {import("./freshness.js").Freshness} Freshness */
/** @typedef {import("./options.js").Options} Options */
/** @typedef {import("./reconnect.js").End} End */
/** @typedef {import("./replica.js").Candidate} Candidate */
/** @typedef {import("./replica.js").Held} Held */
/** @typedef {import("./replica.js").Proof} Proof */
/** @typedef {import("./replica.js").Replica} Replica */
/** @typedef {import("./errors.js").ChannelError} ChannelError */
/** @typedef {import("./messages.js").ServerMessage} ServerMessage */

// What an auth message takes besides its token and its watch entries.
const AUTH_BYTES = 512;
// RFC 6455 §7.4.1
const NORMAL_CLOSURE = 1000;
const GOING_AWAY = 1001;
const PROTOCOL_ERROR = 1002;

/**
 * Where a session stands; see the diagram above.
 * @enum {string}
 */
export const Condition = Object.freeze({
  IDLE: "idle",
  ASKING: "asking",
  CONNECTING: "connecting",
  GREETING: "greeting",
  LIVE: "live",
  WAITING: "waiting",
  STOPPED: "stopped",
});

/** The whole life of a channel, over any number of connections. */
export class Session {
  /** @type {Effect[]} */
  #effects = [];
  #talk;
  #credential = new Credential();
  #backoff;
  #meter = new FreshnessMeter();
  #now = 0;
  #chance = 0;
  #until = Infinity; // when the present condition has lasted long enough, or too long
  #notBefore = Infinity; // until when a wait may not be cut short
  #liveSince = 0;
  #heartbeatMs = 25_000;
  #pingAt = Infinity;
  #pongBy = Infinity;
  #networkIsGone = false;
  /** @type {string | null} */
  #lastEnd = null;
  /** @type {{frame: unknown, message: ServerMessage | null} | null} */
  #decoded = null;

  /** @param {Options} options see `makeOptions` */
  constructor(options) {
    this.options = options;
    /** @type {Condition} */
    this.condition = Condition.IDLE;
    /**
     * The gateway's name of the present session, or of the last one.
     * @type {string | null}
     */
    this.id = null;
    /**
     * Since when the positions of the change log count, as the gateway calls it.
     * @type {string | null}
     */
    this.epoch = null;
    /** How many frames were no messages. */
    this.malformed = 0;
    this.#talk = new Conversation(options.watch, this.#effects, {
      verify: options.verify,
      requestTimeoutMs: options.requestTimeoutMs,
    });
    this.#backoff = new Backoff(options.backoffBaseMs, options.backoffCapMs, options.stableMs);
  }

  // --- what can be seen ---

  /**
   * Who this is, `user:ID` or `instance:ID`; null before the first connection.
   * @returns {string | null}
   */
  get principal() {
    return this.#talk.principal;
  }

  /**
   * The documents that are watched.
   * @returns {Replica}
   */
  get replica() {
    return this.#talk.replica;
  }

  /**
   * The own document, if it is watched and its name is known.
   * @returns {Held | null}
   */
  get own() {
    return this.#talk.replica.get(this.#talk.resolve("self"));
  }

  /**
   * When the credential ends (RFC 3339), as the gateway said; null: never, or not known.
   * @returns {string | null}
   */
  get expiresAt() {
    return this.#credential.expiresAt;
  }

  /**
   * Whether every watched document came on this connection.
   * @returns {boolean}
   */
  complete() {
    return this.condition === Condition.LIVE && !this.#talk.replica.awaited();
  }

  /**
   * The canonical name of a document: `self` is the own one, once it is known who that is.
   * @param {string} name
   * @returns {string}
   */
  resolve(name) {
    return this.#talk.resolve(name);
  }

  /**
   * How true everything held is.
   * @param {number} now monotonic milliseconds
   * @returns {Freshness}
   */
  freshness(now) {
    const live = this.condition === Condition.LIVE;
    const amiss = live ? "network" : this.#lastEnd || "connecting";
    return this.#meter.read(live && !this.#networkIsGone ? null : amiss, this.#talk.replica.exact(), now);
  }

  /**
   * When a `tick` is due, in milliseconds of the clock that `handle` is given; infinite when none is.
   * @returns {number}
   */
  get deadline() {
    return Math.min(this.#dueAt, this.#talk.spending.deadline());
  }

  /** When the present condition has something to do. */
  get #dueAt() {
    if (this.condition === Condition.LIVE) {
      return Math.min(this.#pingAt, this.#pongBy, this.#credential.dueAt, this.#talk.deadline());
    }
    return this.#until;
  }

  // --- events ---

  /**
   * What has to be proved before this frame is handed over: the SHA-256 of `text`, by what is held now. Null when there
   * is nothing to prove, or `proof` is of just that. While the digest is computed other events may come, so ask again
   * with the proof until the answer is null, and then hand frame and proof over at once.
   * @param {unknown} frame
   * @param {Proof | null} [proof]
   * @returns {Candidate | null}
   */
  candidate(frame, proof = null) {
    if (!this.options.verify || this.condition !== Condition.LIVE) {
      return null;
    }
    try {
      const message = this.#decode(frame);
      return message === null ? null : this.#talk.replica.candidate(message, proof);
    } catch (error) {
      if (error instanceof MalformedMessage) {
        return null; // handing it over says so
      }
      throw error;
    }
  }

  /**
   * Take an event.
   * @param {Event} event
   * @param {number} now monotonic milliseconds
   * @param {number} chance a random number in [0, 1)
   * @returns {Readonly<Effect>[]} what to do, in this order
   */
  handle(event, now, chance) {
    this.#now = this.#talk.now = now;
    this.#chance = this.#talk.chance = chance;
    if (this.condition !== Condition.STOPPED) {
      this.#take(event);
    } else if (isRequest(event)) {
      this.#effects.push({ type: "reject", id: event.id, error: closed() });
    }
    const freshness = this.freshness(now);
    if (this.#meter.changed(freshness, now)) {
      this.#effects.push({ type: "freshnessChanged", freshness });
    }
    return this.#effects.splice(0).map((effect) => Object.freeze(effect));
  }

  /** @param {Event} event */
  #take(event) {
    switch (event.type) {
      case "received":
        return this.#receive(event);
      case "tick":
        return this.#tick();
      case "start":
        return this.condition === Condition.IDLE ? this.#ask() : undefined;
      case "stop":
        this.#lastEnd = "closed";
        this.#hangUp(NORMAL_CLOSURE, "");
        return this.#stop(null);
      case "tokenGiven":
        return this.#tokenGiven(event.token);
      case "tokenFailed":
        return this.#tokenFailed(event.cause);
      case "opened":
        return this.#opened(event.subprotocol);
      case "lost":
        return this.#leave(endOfClose(event.code, event.reason));
      case "wake":
        return this.#wake();
      case "offline":
        this.#networkIsGone = true;
        return this.#wake();
      case "forget":
        return this.#talk.forget(event.id);
      default:
        return this.#talk.request(event);
    }
  }

  // --- to a connection ---

  #ask() {
    this.condition = Condition.ASKING;
    this.#until = this.#now + this.options.tokenTimeoutMs;
    this.#effects.push({ type: "askToken", refused: this.#credential.refused });
  }

  /** @param {string} token */
  #tokenGiven(token) {
    const credential = this.#credential;
    if (this.condition === Condition.LIVE && credential.renewal === Renewal.ASKING) {
      this.#renew(token);
    } else if (this.condition === Condition.ASKING && token === credential.refused) {
      credential.refused = null; // held back once; after the wait it is as good as any
      const waitMs = this.#backoff.afterRefusedToken(this.#chance);
      this.#wait(waitMs, waitMs);
    } else if (this.condition === Condition.ASKING) {
      this.#connect(token);
    }
  }

  /** @param {unknown} cause */
  #tokenFailed(cause) {
    const asking = this.condition === Condition.ASKING;
    if (!asking && this.#credential.renewal !== Renewal.ASKING) {
      return;
    }
    const error = new TokenUnavailable(`The token provider failed: ${described(cause)}`, { cause });
    this.#effects.push({ type: "trouble", error });
    if (asking) {
      this.#wait(this.#backoff.afterRefusedToken(this.#chance), 0);
    } else {
      this.#credential.postpone(this.#now);
    }
  }

  /** @param {string} token */
  #renew(token) {
    if (token === this.#credential.token) {
      this.#credential.postpone(this.#now);
      return;
    }
    const id = this.#talk.requests.ownId();
    this.#credential.send(token, id, this.#now);
    this.#talk.send({ op: "auth", token, id });
  }

  /** @param {string} token */
  #connect(token) {
    this.#credential.token = token;
    this.condition = Condition.CONNECTING;
    this.#until = this.#now + this.options.connectTimeoutMs;
    this.#effects.push({ type: "connect" });
  }

  /** @param {string | null} subprotocol */
  #opened(subprotocol) {
    if (this.condition !== Condition.CONNECTING) {
      return;
    }
    if ((subprotocol || SUBPROTOCOL) !== SUBPROTOCOL) {
      this.#leave(malformed(`The gateway chose ${subprotocol}, which was not offered.`), PROTOCOL_ERROR);
      return;
    }
    this.condition = Condition.GREETING;
    this.#until = this.#now + this.options.greetingTimeoutMs;
  }

  // --- on a connection ---

  /** @param {Received} event */
  #receive({ frame, proof = null }) {
    if (this.condition !== Condition.GREETING && this.condition !== Condition.LIVE) {
      return;
    }
    this.#networkIsGone = false;
    this.#meter.heard(this.#now);
    if (this.#pongBy !== Infinity) {
      this.#pongBy = this.#now + this.options.pongTimeoutMs;
    }
    let message;
    try {
      message = this.#decode(frame);
    } catch (error) {
      if (!(error instanceof MalformedMessage)) {
        throw error;
      }
      this.malformed += 1;
      this.#leave(malformed(error.message), PROTOCOL_ERROR);
      return;
    }
    if (message !== null && this.condition === Condition.LIVE) {
      this.#receiveLive(message, proof);
    } else if (message !== null) {
      this.#receiveGreeting(message);
    }
  }

  /**
   * Read a frame; the one that was read last, for `candidate`, is not read again.
   * @param {unknown} frame
   * @returns {ServerMessage | null}
   */
  #decode(frame) {
    const decoded = this.#decoded;
    if (decoded !== null && decoded.frame === frame) {
      return decoded.message;
    }
    const message = decode(frame);
    this.#decoded = { frame, message };
    return message;
  }

  /** @param {ServerMessage} message */
  #receiveGreeting(message) {
    switch (message.op) {
      case "hello":
        return this.#greeted(message);
      case "ready":
        return this.#becomeLive(message);
      case "ended":
        return this.#leave(endOfMessage(message), NORMAL_CLOSURE);
      case "error":
        return this.#talk.receive(message, null);
    }
  }

  /**
   * @param {ServerMessage} message
   * @param {Proof | null} proof
   */
  #receiveLive(message, proof) {
    switch (message.op) {
      case "ready":
        this.id = message.session;
        return this.#credential.accepted(message.expiresAt);
      case "ended":
        return this.#leave(endOfMessage(message), NORMAL_CLOSURE);
      case "expiring":
        return this.#credential.expiring(this.#now) ? this.#askForRenewal() : undefined;
      case "status":
        return this.#receiveStatus(message);
      case "error":
        if (message.id !== null && message.id === this.#credential.request) {
          this.#effects.push({ type: "trouble", error: requestError(message.code, message.message) });
          return this.#credential.postpone(this.#now);
        }
        break;
      case "pong":
        this.#pongBy = Infinity;
        break;
    }
    this.#talk.receive(message, proof);
  }

  #askForRenewal() {
    this.#effects.push({ type: "askToken", refused: null });
  }

  /** @param {import("./messages.js").Hello} hello */
  #greeted(hello) {
    if (this.epoch !== null && this.epoch !== hello.epoch) {
      this.#talk.newEpoch();
    }
    this.epoch = hello.epoch;
    this.#heartbeatMs = Math.max(1, hello.heartbeatS) * 1000;
    this.#talk.maxFrameBytes = hello.maxFrameBytes;
    const token = this.#credential.token;
    if (token !== null) {
      this.#talk.send({
        op: "auth",
        token,
        watch: this.#talk.entries(hello.maxFrameBytes - token.length - AUTH_BYTES),
        client: this.options.client ?? undefined,
        last_end: this.#lastEnd ?? undefined,
      });
    }
  }

  /** @param {import("./messages.js").Ready} ready */
  #becomeLive(ready) {
    if (this.principal !== null && this.principal !== ready.principal) {
      this.#leave(somebodyElse(), NORMAL_CLOSURE);
      return;
    }
    this.condition = Condition.LIVE;
    this.#until = Infinity;
    this.id = ready.session;
    this.#liveSince = this.#now;
    this.#meter.connected();
    this.#credential.accepted(ready.expiresAt);
    this.#schedulePing();
    this.#talk.begin(ready.principal);
  }

  /** @param {import("./messages.js").Status} status */
  #receiveStatus(status) {
    const isStale = status.store === "stale";
    if (status.doc === null) {
      this.#meter.store(isStale);
    } else {
      this.#talk.replica.markStale(status.doc, isStale);
    }
    if (isStale) {
      this.#meter.stale(status.ageS, this.#now);
    }
  }

  // --- time ---

  #tick() {
    this.#talk.spending.tick(this.#now);
    if (this.#now < this.#dueAt) {
      return;
    }
    switch (this.condition) {
      case Condition.WAITING:
        return this.#ask();
      case Condition.ASKING:
        return this.#tokenFailed(new Error("no answer in time"));
      case Condition.CONNECTING:
      case Condition.GREETING:
        return this.#leave(silent(), GOING_AWAY);
      case Condition.LIVE:
        return this.#tickLive();
    }
  }

  #tickLive() {
    if (this.#now >= this.#pongBy) {
      this.#leave(silent(), GOING_AWAY);
      return;
    }
    if (this.#now >= this.#pingAt) {
      this.#ping();
    }
    if (this.#now >= this.#credential.dueAt) {
      this.#credential.ask();
      this.#askForRenewal();
    }
    this.#talk.tick();
  }

  #ping() {
    this.#talk.send({ op: "ping", id: this.#talk.requests.ownId() });
    this.#pongBy = Math.min(this.#pongBy, this.#now + this.options.pongTimeoutMs);
    this.#schedulePing();
  }

  #schedulePing() {
    const intervalMs = this.options.pingIntervalMs ?? this.#heartbeatMs;
    this.#pingAt = this.#now + intervalMs * (0.9 + 0.2 * this.#chance);
  }

  /** See whether the connection still is one, or make one soon; no ping is sent while one is under way. */
  #wake() {
    if (this.condition === Condition.LIVE && this.#pongBy === Infinity) {
      this.#ping();
    } else if (this.condition === Condition.WAITING) {
      const soon = this.#now + this.#chance * this.options.backoffBaseMs;
      this.#until = Math.min(this.#until, Math.max(this.#notBefore, soon));
    }
  }

  // --- away from a connection ---

  /**
   * @param {End} end
   * @param {number | null} [closeCode]
   */
  #leave(end, closeCode = null) {
    if (!this.#hasSocket()) {
      return;
    }
    const livedMs = this.condition === Condition.LIVE ? this.#now - this.#liveSince : 0;
    this.#lastEnd = end.code;
    if (closeCode !== null) {
      this.#hangUp(closeCode, end.code);
    }
    const error = end.error();
    if (end.reconnect === Reconnect.NEVER) {
      this.#stop(error);
      return;
    }
    this.#talk.lose(error instanceof Disconnected ? error : new Disconnected(end.message, { code: end.code }));
    this.#effects.push({ type: "trouble", error });
    this.#credential.settle();
    if (end.reconnect === Reconnect.NEW_CREDENTIAL) {
      this.#credential.refuse();
    }
    const waitMs = this.#backoff.after(end, livedMs, this.#chance);
    this.#wait(waitMs, end.reconnect === Reconnect.LATER ? waitMs : end.retryAfterS * 1000);
  }

  /**
   * @param {number} closeCode
   * @param {string} reason
   */
  #hangUp(closeCode, reason) {
    if (this.#hasSocket()) {
      this.#effects.push({ type: "close", code: closeCode, reason });
    }
  }

  #hasSocket() {
    const condition = this.condition;
    return condition === Condition.CONNECTING || condition === Condition.GREETING || condition === Condition.LIVE;
  }

  /**
   * @param {number} waitMs
   * @param {number} leastMs how much of that nothing can cut short
   */
  #wait(waitMs, leastMs) {
    this.condition = Condition.WAITING;
    this.#until = this.#now + waitMs;
    this.#notBefore = this.#now + leastMs;
    this.#pongBy = this.#pingAt = Infinity;
  }

  /** @param {ChannelError | null} error */
  #stop(error) {
    this.condition = Condition.STOPPED;
    this.#until = Infinity;
    this.#talk.stop(error);
    this.#effects.push({ type: "stopped", error });
  }
}

const REQUESTS = ["watchDocuments", "unwatchDocuments", "syncDocument", "measurePing", "awaitSeq", "spend"];

/**
 * @param {Event} event
 * @returns {event is Request}
 */
function isRequest(event) {
  return REQUESTS.includes(event.type);
}

function closed() {
  return new Disconnected("The channel is closed.", { code: "closed" });
}

/** @param {unknown} cause */
function described(cause) {
  return cause instanceof Error ? cause.message || cause.name : String(cause);
}
