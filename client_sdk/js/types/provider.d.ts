/**
 * Get a token. Rejects with what the function throws, and with a TypeError for what is no token.
 * @param {string | TokenProvider} source
 * @param {string | null} refused
 * @returns {Promise<string>}
 */
export function provide(source: string | TokenProvider, refused: string | null): Promise<string>;
/**
 * The same; TypeError for a string that can never be a token, and for what is neither string nor function.
 * @param {string | TokenProvider} source
 * @returns {string | TokenProvider}
 */
export function usable(source: string | TokenProvider): string | TokenProvider;
/** Where tokens come from: a string, or a function that is asked for one whenever one is needed. */
/**
 * Gives a token: an access token, an API token or a ticket. It is told the token that the gateway just refused, null
 * when there is none: a provider that keeps tokens gets another one then.
 * @typedef {(refused: string | null) => string | Promise<string>} TokenProvider
 */
/** @typedef {import("./events.js").TokenFailed | import("./events.js").TokenGiven} Answer */
/** Asks for tokens; only the last question counts. */
export class Asking {
    /** @param {string | TokenProvider} source */
    constructor(source: string | TokenProvider);
    /**
     * Ask for a token. Never rejected.
     * @param {string | null} refused
     * @returns {Promise<Answer | null>} null: nobody wants to know any more
     */
    ask(refused: string | null): Promise<Answer | null>;
    /** Nobody wants to know any more. */
    forget(): void;
    #private;
}
/**
 * Gives a token: an access token, an API token or a ticket. It is told the token that the gateway just refused, null
 * when there is none: a provider that keeps tokens gets another one then.
 */
export type TokenProvider = (refused: string | null) => string | Promise<string>;
export type Answer = import("./events.js").TokenFailed | import("./events.js").TokenGiven;
