/** The line to the gateway: one connection after the other, and the goodbyes of those before. */

import { Intake } from "./intake.js";
import { Connection } from "./socket.js";

/** @typedef {import("./environment.js").Environment} Environment */
/** @typedef {import("./events.js").Event} Event */
/** @typedef {import("./session.js").Session} Session */
/** @typedef {import("./socket.js").Endpoint} Endpoint */

/** At most one connection at a time. */
export class Line {
  #environment;
  #endpoint;
  /** @type {Connection | null} */
  #connection = null;
  /** @type {Intake | null} */
  #intake = null;
  /** @type {Set<Promise<void>>} */
  #goodbyes = new Set();

  /**
   * @param {Environment} environment
   * @param {Endpoint} endpoint
   */
  constructor(environment, endpoint) {
    this.#environment = environment;
    this.#endpoint = endpoint;
  }

  /**
   * Make a connection.
   * @param {Session} session says what has to be proved
   * @param {(event: Event) => void} feed is told what happens on it
   * @param {(fault: unknown) => void} fail is told of a fault of this program
   */
  connect(session, feed, fail) {
    const intake = new Intake(session, this.#environment.subtle, feed, fail);
    this.#intake = intake;
    this.#connection = new Connection(this.#environment, this.#endpoint, (event) => intake.put(event));
    this.#connection.open();
  }

  /**
   * Send a frame.
   * @param {string} frame
   */
  send(frame) {
    this.#connection?.send(frame);
  }

  /**
   * Close the connection, if there is one. Nothing of it is told any more.
   * @param {number} code
   * @param {string} reason
   */
  hangUp(code, reason) {
    const connection = this.#connection;
    this.#intake?.stop();
    this.#connection = this.#intake = null;
    if (connection === null) {
      return;
    }
    connection.close(code, reason);
    this.#goodbyes.add(connection.gone);
    void connection.gone.then(() => this.#goodbyes.delete(connection.gone));
  }

  /**
   * Done when nothing is left of any connection that was closed.
   * @returns {Promise<unknown>}
   */
  quiet() {
    return Promise.all(this.#goodbyes);
  }
}
