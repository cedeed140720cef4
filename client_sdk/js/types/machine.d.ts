/** What a `Session` is made of. Times in monotonic milliseconds. */
export class Machine extends Life {
    /** When the present condition has something to do. */
    get dueAt(): number;
    /**
     * Take an event, unless it is over.
     * @param {Event} event
     * @param {number} now
     * @param {number} chance a random number in [0, 1)
     */
    handle(event: Event, now: number, chance: number): void;
    /**
     * Read a frame; it is asked about first and handed over then, and read only once for that.
     * @param {unknown} frame
     * @returns {ServerMessage | null}
     * @throws {MalformedMessage} it is no message
     */
    decode(frame: unknown): ServerMessage | null;
    #private;
}
import { Life } from "./life.js";
import type { Event } from "./events.js";
import type { ServerMessage } from "./messages.js";
