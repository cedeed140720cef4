/** Those who wait for what comes of a request. */
/** @typedef {import("./events.js").Request} Request */
/** @typedef {{resolve: (value: any) => void, reject: (error: unknown) => void, request: Request}} Waiting */
/** The requests of an application that have no answer yet. */
export class Answers {
    /**
     * A name that no other request has.
     * @returns {string}
     */
    newId(): string;
    /**
     * Wait for what comes of a request.
     * @param {Request} request
     * @returns {Promise<any>}
     */
    wait(request: Request): Promise<any>;
    /**
     * The request `id` succeeded.
     * @param {string} id
     * @param {unknown} value
     */
    resolve(id: string, value: unknown): void;
    /**
     * The request `id` failed.
     * @param {string} id
     * @param {unknown} error
     * @returns {boolean} whether somebody waited for it
     */
    reject(id: string, error: unknown): boolean;
    /**
     * Nothing comes of any of them any more.
     * @param {(request: Request) => unknown} errorOf
     */
    close(errorOf: (request: Request) => unknown): void;
    #private;
}
export type Request = import("./events.js").Request;
export type Waiting = {
    resolve: (value: any) => void;
    reject: (error: unknown) => void;
    request: Request;
};
