/**
 * Hands the events of one connection over one by one, each frame with the proof that it needs.
 *
 * While a copy is proved the others wait; then those updates of a document that follow each other are proved, and
 * handed over, as one. An end that the gateway decides waits for nothing: what is dropped for it comes again with the
 * next connection, or nobody may see it any more.
 */
export class Intake {
    /**
     * @param {Session} session
     * @param {import("./environment.js").Digests | null} subtle null where nothing can be proved
     * @param {(event: Event) => void} feed
     * @param {(fault: unknown) => void} fail is told of a fault of this program
     */
    constructor(session: Session, subtle: import("./environment.js").Digests | null, feed: (event: Event) => void, fail: (fault: unknown) => void);
    /**
     * Hand an event over when those before it are: at once, unless one of them is still being proved.
     * @param {Event} event
     */
    put(event: Event): void;
    /** Hand nothing more over. */
    stop(): void;
    #private;
}
export type Event = import("./events.js").Event;
export type ServerMessage = import("./messages.js").ServerMessage;
export type Candidate = import("./proof.js").Candidate;
export type Proof = import("./proof.js").Proof;
export type Session = import("./session.js").Session;
