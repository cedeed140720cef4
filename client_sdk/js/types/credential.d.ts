/**
 * Where the renewal of the credential of a live session stands.
 *
 *     SETTLED ──expiring──▶ ASKING ──token──▶ SENT ──ready──▶ SETTLED
 *                             │  ▲              │
 *          failed, same token │  │ due          │ error, no answer
 *                             ▼  │              │
 *                             DUE ◀─────────────┘
 */
export type Renewal = string;
/** The token in use, the one that was refused, and where a renewal stands. */
/**
 * Where the renewal of the credential of a live session stands.
 *
 *     SETTLED ──expiring──▶ ASKING ──token──▶ SENT ──ready──▶ SETTLED
 *                             │  ▲              │
 *          failed, same token │  │ due          │ error, no answer
 *                             ▼  │              │
 *                             DUE ◀─────────────┘
 *
 * @enum {string}
 */
export const Renewal: Readonly<{
    SETTLED: "settled";
    DUE: "due";
    ASKING: "asking";
    SENT: "sent";
}>;
/** What the session knows of its tokens. Times in monotonic milliseconds. */
export class Credential {
    /** @param {number} timeoutMs how long the provider may take */
    constructor(timeoutMs: number);
    /** @type {string | null} */
    token: string | null;
    /** @type {string | null} */
    refused: string | null;
    /** @type {string | null} */
    expiresAt: string | null;
    /** @type {Renewal} */
    renewal: Renewal;
    /**
     * The id of the renewal that was sent.
     * @type {string | null}
     */
    request: string | null;
    /** When a renewal has to go on, or the provider has taken too long for it. */
    dueAt: number;
    /**
     * The gateway said ready.
     * @param {string | null} expiresAt RFC 3339
     */
    accepted(expiresAt: string | null): void;
    /** The token in use is not taken any more. */
    refuse(): void;
    /** No renewal is under way. */
    settle(): void;
    /**
     * Whether to ask the provider now. Tokens that hardly live may not make the session ask all the time.
     * @param {number} now
     * @returns {boolean}
     */
    expiring(now: number): boolean;
    /**
     * The provider is asked.
     * @param {number} now
     */
    ask(now: number): void;
    /**
     * The renewal is sent.
     * @param {string} token
     * @param {string} request
     * @param {number} now
     */
    send(token: string, request: string, now: number): void;
    /**
     * It did not work; the old token holds until its end, so there is time to try again.
     * @param {number} now
     */
    postpone(now: number): void;
    #private;
}
