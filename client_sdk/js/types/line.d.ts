/** @typedef {import("./environment.js").Environment} Environment */
/** @typedef {import("./events.js").Event} Event */
/** @typedef {import("./session.js").Session} Session */
/** @typedef {import("./socket.js").Endpoint} Endpoint */
/** At most one connection at a time. */
export class Line {
    /**
     * @param {Environment} environment
     * @param {Endpoint} endpoint
     */
    constructor(environment: Environment, endpoint: Endpoint);
    /**
     * Make a connection.
     * @param {Session} session says what has to be proved
     * @param {(event: Event) => void} feed is told what happens on it
     * @param {(fault: unknown) => void} fail is told of a fault of this program
     */
    connect(session: Session, feed: (event: Event) => void, fail: (fault: unknown) => void): void;
    /**
     * Send a frame.
     * @param {string} frame
     */
    send(frame: string): void;
    /**
     * Close the connection, if there is one. Nothing of it is told any more.
     * @param {number} code
     * @param {string} reason
     */
    hangUp(code: number, reason: string): void;
    /**
     * Done when nothing is left of any connection that was closed.
     * @returns {Promise<unknown>}
     */
    quiet(): Promise<unknown>;
    #private;
}
export type Environment = import("./environment.js").Environment;
export type Event = import("./events.js").Event;
export type Session = import("./session.js").Session;
export type Endpoint = import("./socket.js").Endpoint;
