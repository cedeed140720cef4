/**
 * Where to connect and how.
 * @typedef {object} Endpoint
 * @property {string} url
 * @property {string} subprotocol
 * @property {number} closeTimeoutMs how long a goodbye may take
 */
/** One socket. What happens on it is fed to `feed`, until it is closed; `send` and `close` never wait. */
export class Connection {
    /**
     * @param {Environment} environment
     * @param {Endpoint} endpoint
     * @param {(event: Event) => void} feed
     */
    constructor(environment: Environment, endpoint: Endpoint, feed: (event: Event) => void);
    /**
     * Done when nothing of the socket is left, or its goodbye has taken long enough. Never rejected.
     * @type {Promise<void>}
     */
    gone: Promise<void>;
    /** Connect. */
    open(): void;
    /**
     * Send a frame.
     * @param {string} frame
     */
    send(frame: string): void;
    /**
     * Close the socket, or stop making one. Nothing that it does from now on is an event, and nobody has to wait for it.
     * @param {number} code
     * @param {string} reason
     */
    close(code: number, reason: string): void;
    #private;
}
export type Environment = import("./environment.js").Environment;
export type Event = import("./events.js").Event;
/**
 * Where to connect and how.
 */
export type Endpoint = {
    url: string;
    subprotocol: string;
    /**
     * how long a goodbye may take
     */
    closeTimeoutMs: number;
};
