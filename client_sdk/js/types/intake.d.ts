/** @typedef {import("./events.js").Event} Event */
/** @typedef {import("./replica.js").Proof} Proof */
/** @typedef {import("./session.js").Session} Session */
/** Hands the events of one connection over one by one, each frame with the proof that it needs. */
export class Intake {
    /**
     * @param {Session} session
     * @param {SubtleCrypto | null} subtle null where nothing can be proved
     * @param {(event: Event) => void} feed
     * @param {(fault: unknown) => void} fail is told of a fault of this program
     */
    constructor(session: Session, subtle: SubtleCrypto | null, feed: (event: Event) => void, fail: (fault: unknown) => void);
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
export type Proof = import("./replica.js").Proof;
export type Session = import("./session.js").Session;
