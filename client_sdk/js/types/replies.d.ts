/** Reads what comes, and asks again where it is not exact. */
export class Replies {
    /**
     * @param {Inquiries} inquiries
     * @param {Effect[]} effects
     */
    constructor(inquiries: Inquiries, effects: Effect[]);
    /**
     * A message about documents or requests.
     * @param {ServerMessage} message
     * @param {Proof | null} proof of the copy that it leads to
     */
    receive(message: ServerMessage, proof: Proof | null): void;
    #private;
}
import type { ServerMessage } from "./messages.js";
import type { Proof } from "./proof.js";
import type { Inquiries } from "./inquiries.js";
import type { Effect } from "./events.js";
