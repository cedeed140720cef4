/**
 * The states of a session, and what leads from one to the next.
 *
 *     IDLE ──start──▶ ASKING ──token──▶ CONNECTING ──opened──▶ GREETING ──ready──▶ LIVE
 *                      ▲  │                 │                      │                │
 *         the wait is  │  │ no token,       │ lost, too long       │ ended, lost,   │ ended, lost,
 *         over         │  ▼ refused token   ▼                      ▼ too long       ▼ no pong
 *                     WAITING ◀─────────────┴──────────────────────┴────────────────┘
 *
 *     any of them ──stop, or an end that says never──▶ STOPPED
 */

import { Renewal } from "./credential.js";
import { MalformedMessage, TokenUnavailable, requestError } from "./errors.js";
import { Condition, Life } from "./life.js";
import { PROBE_MS } from "./pulse.js";
import { endOfClose, endOfMessage, malformed, silent, somebodyElse, unreached, wished } from "./reconnect.js";
import { SUBPROTOCOL, decode } from "./wire.js";

/** @import { Event, Received } from "./events.js" */
/** @import { Hello, Ready, ServerMessage, Status } from "./messages.js" */
/** @import { Proof } from "./proof.js" */

// What an auth message takes besides its token and its watch entries.
const AUTH_BYTES = 512;
const PROTOCOL = 1;
// When the network is back it is back for a whole office.
const ONLINE_SPREAD_MS = 2_000;
// RFC 6455 §7.4.1
const NORMAL_CLOSURE = 1000;
const GOING_AWAY = 1001;
const PROTOCOL_ERROR = 1002;

/** What a `Session` is made of. Times in monotonic milliseconds. */
export class Machine extends Life {
  /** @type {Map<unknown, ServerMessage | null>} */
  #decoded = new Map(); // what was asked about and not handed over yet

  /** When the present condition has something to do. */
  get dueAt() {
    if (this.condition === Condition.LIVE) {
      return Math.min(this.pulse.deadline, this.credential.dueAt, this.talk.deadline());
    }
    return this.until;
  }

  /**
   * Take an event, unless it is over.
   * @param {Event} event
   * @param {number} now
   * @param {number} chance a random number in [0, 1)
   */
  handle(event, now, chance) {
    this.now = now;
    this.chance = chance;
    this.talk.at(now, chance);
    this.#take(event);
  }

  /**
   * Read a frame; it is asked about first and handed over then, and read only once for that.
   * @param {unknown} frame
   * @returns {ServerMessage | null}
   * @throws {MalformedMessage} it is no message
   */
  decode(frame) {
    const known = this.#decoded.get(frame);
    if (known !== undefined) {
      return known;
    }
    const message = decode(frame);
    this.#decoded.set(frame, message);
    return message;
  }

  /** @param {(message: ServerMessage | null) => boolean} isDone which of what was read is not needed any more */
  #release(isDone) {
    for (const [frame, message] of this.#decoded) {
      if (isDone(message)) {
        this.#decoded.delete(frame);
      }
    }
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
        this.lastEnd = "closed";
        this.hangUp(NORMAL_CLOSURE, "");
        return this.stop(null);
      case "tokenGiven":
        return this.#tokenGiven(event.token);
      case "tokenFailed":
        return this.#tokenFailed(event.cause);
      case "opened":
        return this.#opened(event.subprotocol);
      case "lost":
        return this.leave(endOfClose(event.code, event.reason));
      case "left":
        return this.leave(wished());
      case "wake":
        return this.#wake(this.options.backoffBaseMs, Math.max(0, event.gapMs ?? 0), false);
      case "online":
        return this.#wake(ONLINE_SPREAD_MS, 0, true);
      case "offline":
        this.networkIsGone = true;
        return this.condition === Condition.LIVE ? this.pulse.probe(this.now, this.chance) : undefined;
      case "missed":
        this.#release((message) => message !== null && "doc" in message && message.doc === event.doc);
        return this.talk.missed(event.doc);
      case "forget":
        return this.talk.forget(event.id);
      default:
        return this.talk.request(event);
    }
  }

  // --- to a connection ---

  #ask() {
    this.condition = Condition.ASKING;
    this.until = this.now + this.options.tokenTimeoutMs;
    this.effects.push({ type: "askToken", refused: this.credential.refused });
  }

  /** @param {string} token */
  #tokenGiven(token) {
    const credential = this.credential;
    if (this.condition === Condition.LIVE && credential.renewal === Renewal.ASKING) {
      this.#renew(token);
    } else if (this.condition === Condition.ASKING && token === credential.refused) {
      credential.refused = null; // held back once; after the wait it is as good as any
      const waitMs = this.backoff.afterRefusedToken(this.chance);
      this.wait(waitMs, waitMs);
    } else if (this.condition === Condition.ASKING) {
      this.#connect(token);
    }
  }

  /** @param {unknown} cause */
  #tokenFailed(cause) {
    const asking = this.condition === Condition.ASKING;
    if (!asking && this.credential.renewal !== Renewal.ASKING) {
      return;
    }
    const error = new TokenUnavailable(`The token provider failed: ${described(cause)}`, { cause });
    this.effects.push({ type: "trouble", error });
    if (asking) {
      const leastMs = (unreached(cause)?.retryAfterS ?? 0) * 1000;
      this.wait(this.backoff.afterNoToken(cause, this.chance), leastMs);
    } else {
      this.credential.postpone(this.now);
    }
  }

  /** @param {string} token */
  #renew(token) {
    if (token === this.credential.token) {
      this.credential.postpone(this.now);
      return;
    }
    const id = this.talk.ownId();
    this.credential.send(token, id, this.now);
    this.talk.send({ op: "auth", token, id });
  }

  /** @param {string} token */
  #connect(token) {
    this.credential.token = token;
    this.networkIsGone = false;
    this.#decoded.clear();
    this.condition = Condition.CONNECTING;
    this.until = this.now + this.options.connectTimeoutMs;
    this.effects.push({ type: "connect" });
  }

  /** @param {string | null} subprotocol */
  #opened(subprotocol) {
    if (this.condition !== Condition.CONNECTING) {
      return;
    }
    if ((subprotocol || SUBPROTOCOL) !== SUBPROTOCOL) {
      this.leave(malformed(`The gateway chose ${subprotocol}, which was not offered.`), PROTOCOL_ERROR);
      return;
    }
    this.condition = Condition.GREETING;
    this.until = this.now + this.options.greetingTimeoutMs;
  }

  // --- on a connection ---

  /** @param {Received} event */
  #receive({ frame, proof = null }) {
    if (this.condition !== Condition.GREETING && this.condition !== Condition.LIVE) {
      return;
    }
    if (this.condition === Condition.LIVE) {
      this.pulse.check(this.now, this.chance);
    }
    if (!this.pulse.doubts(this.now)) {
      this.meter.heard(this.now);
    }
    this.pulse.heard(this.now);
    /** @type {ServerMessage | null} */
    let message;
    try {
      message = this.decode(frame);
      this.#release((known) => known === message || (proof?.candidate.messages ?? []).some((one) => one === known));
    } catch (error) {
      if (!(error instanceof MalformedMessage)) {
        throw error;
      }
      this.malformed += 1;
      this.leave(malformed(error.message), PROTOCOL_ERROR);
      return;
    }
    if (message !== null && this.condition === Condition.LIVE) {
      this.#receiveLive(message, proof);
    } else if (message !== null) {
      this.#receiveGreeting(message);
    }
  }

  /** @param {ServerMessage} message */
  #receiveGreeting(message) {
    switch (message.op) {
      case "hello":
        return this.#greeted(message);
      case "ready":
        return this.#becomeLive(message);
      case "ended":
        return this.leave(endOfMessage(message), NORMAL_CLOSURE);
      case "error":
        return this.talk.receive(message, null);
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
        return this.credential.accepted(message.expiresAt);
      case "ended":
        return this.leave(endOfMessage(message), NORMAL_CLOSURE);
      case "expiring":
        return this.credential.expiring(this.now) ? this.#askForRenewal() : undefined;
      case "status":
        return this.#receiveStatus(message);
      case "error":
        if (message.id !== null && message.id === this.credential.request) {
          this.effects.push({ type: "trouble", error: requestError(message.code, message.message) });
          return this.credential.postpone(this.now);
        }
        break;
      case "pong":
        if (this.pulse.answered(message.id)) {
          this.networkIsGone = false;
          this.haste = null;
        }
        break;
    }
    this.talk.receive(message, proof);
  }

  #askForRenewal() {
    this.effects.push({ type: "askToken", refused: null });
  }

  /** @param {Hello} hello */
  #greeted(hello) {
    if (hello.protocol !== PROTOCOL) {
      this.leave(malformed(`The gateway speaks version ${hello.protocol} of the protocol.`), PROTOCOL_ERROR);
      return;
    }
    if (this.epoch !== null && this.epoch !== hello.epoch) {
      this.talk.newEpoch();
    }
    this.epoch = hello.epoch;
    this.pulse.greeted(hello.heartbeatS);
    this.talk.greeted(hello.maxFrameBytes);
    const token = this.credential.token;
    if (token !== null) {
      this.talk.send({
        op: "auth",
        token,
        watch: this.talk.entries(hello.maxFrameBytes - token.length - AUTH_BYTES),
        client: this.options.client ?? undefined,
        last_end: this.lastEnd || undefined,
      });
    }
  }

  /** @param {Ready} ready */
  #becomeLive(ready) {
    const { principal } = this.talk;
    if (principal !== null && principal !== ready.principal) {
      this.leave(somebodyElse(), NORMAL_CLOSURE);
      return;
    }
    this.condition = Condition.LIVE;
    this.until = Infinity;
    this.id = ready.session;
    this.liveSince = this.now;
    this.meter.connected();
    this.credential.accepted(ready.expiresAt);
    this.haste = null;
    this.pulse.begin(this.now, this.chance);
    this.talk.begin(ready.principal);
    if (this.networkIsGone) {
      this.pulse.probe(this.now, this.chance); // since this connection was begun
    }
  }

  /** @param {Status} status */
  #receiveStatus(status) {
    const isStale = status.store === "stale";
    if (status.doc === null) {
      this.meter.store(isStale);
    } else {
      this.talk.replica.markStale(status.doc, isStale);
    }
    if (isStale) {
      this.meter.stale(status.ageS, this.now);
    }
  }

  // --- time ---

  #tick() {
    this.talk.spending.tick(this.now);
    if (this.now < this.dueAt) {
      return;
    }
    switch (this.condition) {
      case Condition.WAITING:
        return this.#ask();
      case Condition.ASKING:
        return this.#tokenFailed(new Error("no answer in time"));
      case Condition.CONNECTING:
      case Condition.GREETING:
        return this.leave(silent(), GOING_AWAY);
      case Condition.LIVE:
        return this.#tickLive();
    }
  }

  #tickLive() {
    if (this.pulse.isSilent(this.now)) {
      this.leave(silent(), GOING_AWAY);
      return;
    }
    this.pulse.tick(this.now, this.chance);
    if (this.now >= this.credential.dueAt && this.credential.renewal === Renewal.ASKING) {
      this.#tokenFailed(new Error("no answer in time"));
    } else if (this.now >= this.credential.dueAt) {
      this.credential.ask(this.now);
      this.#askForRenewal();
    }
    this.talk.tick();
  }

  /**
   * There may be a network now, and time may have passed: what was due comes first, what waits does not wait long, and
   * what is under way has to show that it still is.
   * @param {number} spreadMs over how long those who wake together come back
   * @param {number} gapMs so much more time may have passed than the clock says
   * @param {boolean} isOnline whether what was begun before may have been begun without a network
   */
  #wake(spreadMs, gapMs, isOnline) {
    this.meter.slept(gapMs);
    if (this.condition === Condition.WAITING) {
      this.talk.spending.tick(this.now);
      this.hurry(spreadMs);
      return;
    }
    this.haste = Math.max(this.haste ?? 0, spreadMs);
    this.#tick();
    if (this.condition === Condition.LIVE) {
      this.pulse.wake(this.now, this.chance, gapMs);
    } else if (this.hasSocket() && (isOnline || gapMs > 0)) {
      this.until = Math.min(this.until, this.now + PROBE_MS);
    }
  }
}

/** @param {unknown} cause */
function described(cause) {
  return cause instanceof Error ? cause.message || cause.name : String(cause);
}
