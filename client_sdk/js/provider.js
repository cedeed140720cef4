/** Where tokens come from: a string, or a function that is asked for one whenever one is needed. */

/**
 * Gives a token: an access token, an API token or a ticket. It is told the token that the gateway just refused, null
 * when there is none: a provider that keeps tokens gets another one then.
 * @typedef {(refused: string | null) => string | Promise<string>} TokenProvider
 */

/** @typedef {import("./events.js").TokenFailed | import("./events.js").TokenGiven} Answer */

/** Asks for tokens; only the last question counts. */
export class Asking {
  #source;
  #count = 0;

  /** @param {string | TokenProvider} source */
  constructor(source) {
    this.#source = source;
  }

  /**
   * Ask for a token. Never rejected.
   * @param {string | null} refused
   * @returns {Promise<Answer | null>} null: nobody wants to know any more
   */
  async ask(refused) {
    this.#count += 1;
    const number = this.#count;
    /** @type {Answer} */
    let answer;
    try {
      answer = { type: "tokenGiven", token: await provide(this.#source, refused) };
    } catch (cause) {
      answer = { type: "tokenFailed", cause };
    }
    return number === this.#count ? answer : null;
  }

  /** Nobody wants to know any more. */
  forget() {
    this.#count += 1;
  }
}

/**
 * Get a token. Rejects with what the function throws, and with a TypeError for what is no token.
 * @param {string | TokenProvider} source
 * @param {string | null} refused
 * @returns {Promise<string>}
 */
export async function provide(source, refused) {
  return checkedToken(typeof source === "function" ? await source(refused) : source);
}

/**
 * The same; TypeError for a string that can never be a token, and for what is neither string nor function.
 * @param {string | TokenProvider} source
 * @returns {string | TokenProvider}
 */
export function usable(source) {
  return typeof source === "function" ? source : checkedToken(source);
}

/**
 * The token if it is one (RFC 6750 §2.1 allows less); the error does not repeat it.
 * @param {unknown} token
 * @returns {string}
 */
function checkedToken(token) {
  if (typeof token !== "string" || !/^[!-~]+$/.test(token)) {
    throw new TypeError("a token is a string of visible ASCII characters without spaces");
  }
  return token;
}
