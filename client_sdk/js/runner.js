/** Runs a session: performs what it wants, feeds what comes of it back, keeps its time, and proves what it holds. */

import { Alarms, Gaps } from "./alarms.js";
import { Answers } from "./answers.js";
import { watchPage } from "./environment.js";
import { AuthFailed, ChannelError, Disconnected, TokenExpired } from "./errors.js";
import { Line } from "./line.js";
import { Asking } from "./provider.js";
import { Condition } from "./session.js";
import { keyOf } from "./spending.js";

/** @typedef {import("./environment.js").Environment} Environment */
/** @typedef {import("./events.js").Effect} Effect */
/** @typedef {import("./events.js").Event} Event */
/** @typedef {import("./events.js").Request} Request */
/** @typedef {import("./freshness.js").Freshness} Freshness */
/** @typedef {import("./listeners.js").Listeners} Listeners */
/** @typedef {import("./provider.js").TokenProvider} TokenProvider */
/** @typedef {import("./session.js").Session} Session */
/** @typedef {import("./socket.js").Endpoint} Endpoint */
/** @typedef {import("./wire.js").Reply} Reply */
/** @typedef {import("./wire.js").SpendingMessage} SpendingMessage */

/** One session, its connection, its timers, its token provider, and those who wait for answers. */
export class Runner {
  #line;
  #asking;
  #listeners;
  /** @type {{resolve: () => void, reject: (error: unknown) => void} | null} */
  #opening = null;
  #failed = false;
  #isAway = false;
  /** @type {Freshness | null} */
  #untold = null; // what came while the page was away
  /** @type {Event[]} */
  #inbox = [];
  #isHandling = false;
  #alarms;
  /** @type {() => void} */
  #cancelTimer = () => undefined;
  #armedFor = Infinity;
  /** @type {() => void} */
  #ignorePage = () => undefined;
  /** @type {() => void} */
  #finish = () => undefined;
  /** @type {Promise<void>} */
  #finished = new Promise((resolve) => (this.#finish = resolve));
  #answers = new Answers();

  /**
   * @param {Session} session
   * @param {Endpoint} endpoint
   * @param {string | TokenProvider} token
   * @param {Listeners} listeners are told what happens
   * @param {Environment} environment
   */
  constructor(session, endpoint, token, listeners, environment) {
    this.session = session;
    this.environment = environment;
    this.#line = new Line(environment, endpoint);
    this.#asking = new Asking(token);
    this.#listeners = listeners;
    this.#alarms = new Alarms(environment, () => this.#look());
    /** Tells when more time may have passed than `now` says. */
    this.gaps = new Gaps(environment);
    this.gaps.on((gapMs) => this.#handle({ type: "wake", gapMs }));
    /**
     * Done when every watched document is there; null before `start`.
     * @type {Promise<void> | null}
     */
    this.opened = null;
    /**
     * What went wrong last.
     * @type {ChannelError | null}
     */
    this.trouble = null;
    /**
     * What the channel ended with, null when the application closed it; undefined before the end.
     * @type {Error | null | undefined}
     */
    this.fault = undefined;
  }

  /**
   * The time that everything goes by.
   * @returns {number} milliseconds
   */
  now() {
    return this.environment.now();
  }

  /**
   * Whether no connection will come any more.
   * @returns {boolean}
   */
  get ended() {
    return this.#failed || this.session.condition === Condition.STOPPED;
  }

  /**
   * Begin.
   * @returns {Promise<void>} `opened`
   */
  start() {
    this.opened = new Promise((resolve, reject) => (this.#opening = { resolve, reject }));
    this.opened.catch(() => undefined); // nobody may be waiting any more
    this.#ignorePage = watchPage(this.environment, {
      woken: () => this.#wake({ type: "wake" }),
      online: () => this.#wake({ type: "online" }),
      offline: () => this.#handle({ type: "offline" }),
      putAway: () => this.#putAway(),
      takenUp: () => this.#takeUp(),
    });
    this.#handle({ type: "start" });
    return this.opened;
  }

  /**
   * End everything, and wait until the socket has said goodbye or has taken too long for that.
   * @returns {Promise<void>}
   */
  async stop() {
    this.#handle({ type: "stop" });
    await this.#finished;
    await this.#line.quiet();
  }

  /**
   * Have the session carry out a request, made with an id.
   * @param {(id: string) => Request} make
   * @param {AbortSignal} [signal] nobody waits for it any more; rejects with its reason
   * @returns {Promise<any>} what comes of it
   */
  async request(make, signal) {
    if (this.#failed || (this.opened === null && !this.ended)) {
      throw closed(this.#failed ? undefined : "The channel is not open.");
    }
    signal?.throwIfAborted();
    const request = make(this.#answers.newId());
    const { id } = request;
    const forget = () => {
      if (this.#answers.reject(id, signal?.reason)) {
        this.#handle({ type: "forget", id });
      }
    };
    signal?.addEventListener("abort", forget);
    const answer = this.#answers.wait(request);
    this.#handle(request);
    try {
      return await answer;
    } finally {
      signal?.removeEventListener("abort", forget);
    }
  }

  /**
   * Have a request to spend carried out, made with an `id`; it survives reconnects.
   * @param {(id: string) => SpendingMessage} make
   * @param {number} timeoutMs
   * @param {AbortSignal} [signal]
   * @returns {Promise<Reply>}
   */
  spend(make, timeoutMs, signal) {
    return this.request((id) => ({ type: "spend", id, message: make(id), timeoutMs }), signal);
  }

  /**
   * Call back when the clock shows `when`, unless the channel ends before.
   * @param {number} when milliseconds
   * @param {() => void} callback
   * @returns {() => void} what ends it
   */
  callAt(when, callback) {
    return this.ended ? () => undefined : this.#alarms.at(when, callback);
  }

  // --- the machine ---

  /**
   * The only way into the session: hand it an event, do what it says, and set the timer. What a callback causes waits
   * until all effects of the present event are performed.
   * @param {Event} event
   */
  #handle(event) {
    if (this.#failed || (this.opened === null && event.type !== "stop" && !this.ended)) {
      return;
    }
    if (!this.#isHandling) {
      this.#look();
    }
    this.#inbox.push(event);
    if (this.#isHandling) {
      return;
    }
    this.#isHandling = true;
    try {
      for (let next = this.#inbox.shift(); next !== undefined; next = this.#inbox.shift()) {
        const effects = this.session.handle(next, this.now(), this.environment.random());
        for (const effect of effects) {
          this.#perform(effect);
        }
      }
      if (this.session.complete()) {
        this.#opening?.resolve();
      }
      this.#setTimer();
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#isHandling = false;
    }
  }

  /** @param {Effect} effect */
  #perform(effect) {
    switch (effect.type) {
      case "send":
        return this.#line.send(effect.frame);
      case "change":
        return this.#listeners.changed(effect);
      case "freshnessChanged":
        return this.#tell(effect.freshness);
      case "resolve":
        return this.#answers.resolve(effect.id, effect.value);
      case "reject":
        return void this.#answers.reject(effect.id, effect.error);
      case "askToken":
        return void this.#ask(effect.refused);
      case "connect":
        return this.#connect();
      case "close":
        return this.#line.hangUp(effect.code, effect.reason);
      case "trouble":
        return this.#note(effect.error);
      case "stopped":
        return this.#end(effect.error);
    }
  }

  /** @param {string | null} refused */
  async #ask(refused) {
    const answer = await this.#asking.ask(refused);
    if (answer !== null) {
      this.#handle(answer);
    }
  }

  #connect() {
    if (this.#isAway) {
      this.#handle({ type: "left" });
      return;
    }
    // What comes over the socket comes in time also where timers do not.
    const feed = (/** @type {Event} */ event) => {
      this.#handle(event);
      this.#alarms.ring();
    };
    this.#line.connect(this.session, feed, (fault) => this.#fail(fault));
  }

  #setTimer() {
    const deadline = this.#isAway ? Infinity : this.session.deadline;
    if (deadline === this.#armedFor) {
      return;
    }
    this.#cancelTimer();
    this.#armedFor = deadline;
    this.#cancelTimer = this.#alarms.at(deadline, () => {
      this.#armedFor = Infinity;
      this.#handle({ type: "tick" });
    });
  }

  /** Whether time may have passed that the clock does not know of: then everybody looks closer. */
  #look() {
    if (!this.#isAway && !this.ended) {
      this.gaps.look();
    }
  }

  // --- the page ---

  /** The page is left. An open socket would keep it out of the back/forward cache, or be dead when it comes back. */
  #putAway() {
    if (this.ended) {
      return;
    }
    this.#isAway = true;
    this.#line.hangUp(1000, "");
    this.#handle({ type: "left" });
  }

  #takeUp() {
    if (!this.#isAway) {
      return;
    }
    this.#isAway = false;
    if (this.#untold !== null) {
      this.#tell(this.#untold);
    }
    this.#wake({ type: "wake" });
  }

  /**
   * Timers may have slept.
   * @param {Event} event
   */
  #wake(event) {
    if (!this.#isAway) {
      this.#handle(event);
      this.#alarms.ring();
    }
  }

  /**
   * Who leaves a page does not want to see it become offline first.
   * @param {Freshness} freshness
   */
  #tell(freshness) {
    this.#untold = this.#isAway ? freshness : null;
    if (!this.#isAway) {
      this.#listeners.tell("freshness", freshness);
    }
  }

  // --- the end ---

  /** @param {ChannelError} error */
  #note(error) {
    this.trouble = error;
    if (error instanceof AuthFailed || error instanceof TokenExpired) {
      this.#opening?.reject(error);
    }
    this.#listeners.tell("trouble", error);
  }

  /**
   * A fault of this program, not of the gateway: better an end than half a life.
   *
   * The session knows best what became of each request. But what it said may have been lost with the fault, so all that
   * is open then is ended here; of a request to spend nobody knows whether it was carried out.
   * @param {unknown} fault
   */
  #fail(fault) {
    this.#failed = true;
    this.#inbox.length = 0;
    this.environment.report(fault);
    this.#end(fault instanceof Error ? fault : new Error(String(fault)));
    try {
      for (const effect of this.session.handle({ type: "stop" }, this.now(), 0)) {
        if (effect.type === "resolve" || effect.type === "reject") {
          this.#perform(effect);
        }
      }
    } catch (again) {
      this.environment.report(again);
    }
    this.#line.hangUp(1000, "");
    this.#answers.close((request) => {
      const error = closed();
      error.key = request.type === "spend" ? keyOf(request.message) : null;
      return error;
    });
  }

  /** @param {Error | null} error */
  #end(error) {
    if (error instanceof ChannelError) {
      this.trouble = error;
    }
    this.fault = error;
    this.#ignorePage();
    this.#cancelTimer();
    this.#armedFor = Infinity;
    this.#alarms.clear();
    this.#asking.forget();
    this.#opening?.reject(error ?? closed());
    this.#listeners.end(error);
    this.#finish();
  }
}

/**
 * @param {string} [message]
 * @returns {Disconnected}
 */
function closed(message = "The channel is closed.") {
  return new Disconnected(message, { code: "closed" });
}
