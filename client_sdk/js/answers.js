/** Those who wait for what comes of a request. */

/** @typedef {import("./events.js").Request} Request */
/** @typedef {{resolve: (value: any) => void, reject: (error: unknown) => void, request: Request}} Waiting */

/** The requests of an application that have no answer yet. */
export class Answers {
  #count = 0;
  /** @type {Map<string, Waiting>} */
  #waiting = new Map();

  /**
   * A name that no other request has.
   * @returns {string}
   */
  newId() {
    this.#count += 1;
    return String(this.#count);
  }

  /**
   * Wait for what comes of a request.
   * @param {Request} request
   * @returns {Promise<any>}
   */
  wait(request) {
    return new Promise((resolve, reject) => this.#waiting.set(request.id, { resolve, reject, request }));
  }

  /**
   * The request `id` succeeded.
   * @param {string} id
   * @param {unknown} value
   */
  resolve(id, value) {
    this.#waiting.get(id)?.resolve(value);
    this.#waiting.delete(id);
  }

  /**
   * The request `id` failed.
   * @param {string} id
   * @param {unknown} error
   * @returns {boolean} whether somebody waited for it
   */
  reject(id, error) {
    this.#waiting.get(id)?.reject(error);
    return this.#waiting.delete(id);
  }

  /**
   * Nothing comes of any of them any more.
   * @param {(request: Request) => unknown} errorOf
   */
  close(errorOf) {
    for (const [id, { request }] of [...this.#waiting]) {
      this.reject(id, errorOf(request));
    }
  }
}
