/**
 * The fields of every message, by its operation.
 * @type {ReadonlyMap<string, Readonly<Record<string, Field>>>}
 */
export const MESSAGES: ReadonlyMap<string, Readonly<Record<string, Field>>>;
export type Data = import("./document.js").Data;
/**
 * The first message, always. Times in seconds.
 */
export type Hello = {
    op: "hello";
    protocol: number;
    node: string;
    epoch: string;
    serverTime: string;
    heartbeatS: number;
    authTimeoutS: number;
    maxFrameBytes: number;
    features: readonly string[];
};
/**
 * Authenticated. `expiresAt` is null for a credential without end.
 */
export type Ready = {
    op: "ready";
    session: string;
    principal: string;
    expiresAt: string | null;
    id: string | null;
};
/**
 * A whole document, exact up to
 *   position `seq` of the change log.
 */
export type Snapshot = {
    op: "snapshot";
    doc: string;
    rev: string;
    seq: number;
    data: Data;
};
/**
 * A merge patch (RFC 7396) from revision `from` to `rev`.
 */
export type Update = {
    op: "update";
    doc: string;
    from: string;
    rev: string;
    seq: number;
    patch: Data;
    causes: readonly string[];
};
/**
 * The revision that the client named is still
 *   the right one.
 */
export type Current = {
    op: "current";
    doc: string;
    rev: string;
    seq: number;
};
/**
 * The document is no longer watched.
 */
export type Gone = {
    op: "gone";
    doc: string;
    reason: string;
};
/**
 * A request succeeded. `docs` and `doc` tell of documents, `quota` to `seq` of the balance that
 *   spending left, the others of a lease.
 */
export type Reply = {
    op: "reply";
    id: string;
    docs: readonly string[];
    doc: string | null;
    quota: string;
    org: string | null;
    limit: number | null;
    used: number;
    reserved: number;
    remaining: number | null;
    period: string;
    hard: boolean;
    resetsAt: string | null;
    level: string;
    cap: number | null;
    capRemaining: number | null;
    seq: number;
    lease: string | null;
    held: number;
    expiresAt: string | null;
    state: string | null;
    committed: number | null;
};
/**
 * A request failed; the connection lives on.
 */
export type ErrorMessage = {
    op: "error";
    code: string;
    message: string;
    id: string | null;
    doc: string | null;
    retryAfterS: number | null;
    quota: string | null;
    remaining: number | null;
    resetsAt: string | null;
};
/**
 * The credential ends soon.
 */
export type Expiring = {
    op: "expiring";
    expiresAt: string;
};
/**
 * What the client
 *   holds may be old (`stale`), or is true again (`fresh`); with `doc` it speaks of that document alone.
 */
export type Status = {
    op: "status";
    store: string;
    since: string;
    ageS: number;
    doc: string | null;
};
/**
 * The answer to
 *   a ping, with the revisions that the gateway sent last.
 */
export type Pong = {
    op: "pong";
    id: string | null;
    serverTime: string;
    revs: ReadonlyMap<string, string>;
};
/**
 * The last
 *   message before a close that the gateway decides.
 */
export type Ended = {
    op: "ended";
    code: string;
    message: string;
    reconnect: string;
    retryAfterS: number | null;
};
export type ServerMessage = Hello | Ready | Snapshot | Update | Current | Gone | Reply | ErrorMessage | Expiring | Status | Pong | Ended;
/**
 * What a value has to be, in words, and what is made of it.
 */
export type Kind = {
    is: string;
    holds: (value: unknown) => boolean;
    make?: ((value: any) => unknown) | undefined;
};
export type Field = {
    /**
     * its name in JavaScript
     */
    as: string;
    read: (message: Record<string, unknown>, name: string) => unknown;
};
