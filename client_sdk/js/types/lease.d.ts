/**
 * Hold a lease while `body` goes on, and commit it however that ends. An error of the body goes first; one of the
 * commit is reported then.
 * @template T
 * @param {Lease} lease one that has begun
 * @param {(lease: Lease) => T | Promise<T>} body
 * @param {(error: unknown) => void} report
 * @returns {Promise<T>}
 */
export function during<T>(lease: Lease, body: (lease: Lease) => T | Promise<T>, report: (error: unknown) => void): Promise<T>;
/**
 * Units that nobody else gets until `commit` or `release`; see `Channel.lease`.
 *
 * The lease extends itself when a third of `ttlS` is over, and at once when the computer may have slept. An answer that
 * is lost on the way changes nothing, and a client that is never heard of again costs its user at most one lease, until
 * `ttlS` is over. A lease that could not be extended in time is not interrupted: the next `use` or `add` throws
 * `LeaseExpired`, and so does `commit` when units were used that could not be committed.
 */
export class Lease {
    /**
     * @param {Runner} runner
     * @param {string} quota
     * @param {number} amount
     * @param {LeaseOptions} [options]
     */
    constructor(runner: Runner, quota: string, amount: number, options?: LeaseOptions);
    /** What the gateway calls it. */
    name: string;
    /** The quota that it is of. */
    quota: string;
    /** The organization whose pool it is taken from; null: it is the user's own. */
    org: string | null;
    /**
     * How many units are held, or were.
     * @returns {number}
     */
    get held(): number;
    /**
     * How many of them were used.
     * @returns {number}
     */
    get used(): number;
    /**
     * How many can still be used without `add`.
     * @returns {number}
     */
    get left(): number;
    /**
     * What the quota stood at when the gateway last spoke of this lease; null before it did.
     * @returns {Balance | null}
     */
    get balance(): Balance | null;
    /**
     * When the lease ends unless it is extended (RFC 3339, UTC, by the gateway's clock); null before it began.
     * @returns {string | null}
     */
    get expiresAt(): string | null;
    /**
     * Count units as used; they are committed at the end.
     * @param {number} [units]
     * @throws {QuotaExceeded} the lease does not hold so many more: `add` some
     * @throws {LeaseExpired} it has ended, and these were not counted
     */
    use(units?: number): void;
    /**
     * Hold more units, and all of them for `ttlS` from now. Rejects with what `Channel.consume` rejects with, with
     * `LeaseExpired`, and with `Conflict` when the quota's period is over: then commit, and take another lease.
     * @param {number} units
     * @param {{key?: string | null}} [options] `key` names this request; a new one when not given
     * @returns {Promise<Balance>}
     */
    add(units: number, { key }?: {
        key?: string | null;
    }): Promise<Balance>;
    /**
     * End the lease: what was used counts, the rest is given back. It may be called again after an error that passes,
     * like `RequestTimeout`: nothing is counted twice.
     * @returns {Promise<Balance>}
     */
    commit(): Promise<Balance>;
    /**
     * End the lease and give everything back, what was used too. It may be called again like `commit`.
     * @returns {Promise<Balance>}
     */
    release(): Promise<Balance>;
    /**
     * Reserve the units, and keep them. When that fails although units may be held by then, they are given back.
     * @returns {Promise<this>}
     */
    begin(): Promise<this>;
    /** Commits at the end of the block: `await using lease = await channel.lease(…)`. */
    [Symbol.asyncDispose](): Promise<void>;
    #private;
}
export type Balance = import("./quota.js").Balance;
export type Runner = import("./runner.js").Runner;
export type Reply = import("./wire.js").Reply;
export type LeaseOptions = {
    /**
     * after how many seconds (1 to 3600, 180 when not given) without this client the gateway
     * gives the units back
     */
    ttlS?: number | undefined;
    /**
     * 1 to 128 characters, one for each lease ever made: lets a program that was started
     * again take its lease up again
     */
    name?: string | null | undefined;
    /**
     * an organization whose pool it is taken from
     */
    org?: string | null | undefined;
    /**
     * bounds each request, 30,000 when not given
     */
    timeoutMs?: number | undefined;
    /**
     * nobody waits for it to begin any more; what may be held by then is given back
     */
    signal?: AbortSignal | undefined;
};
