/**
 * Check the options, and add those that are not given; one that is undefined is not given.
 * @param {SessionOptions} [fields]
 * @returns {Readonly<Options>}
 * @throws {TypeError} one is unknown or has a bad value
 */
export function makeOptions(fields?: SessionOptions): Readonly<Options>;
/**
 * What a client says of itself; for the gateway's logs only.
 */
export type ClientInfo = {
    name: string;
    version: string;
};
/**
 * How a session behaves. Times in milliseconds.
 */
export type Options = {
    /**
     * the documents to watch from the start
     */
    watch: readonly string[];
    /**
     * what to say of oneself in the first message
     */
    client: ClientInfo | null;
    /**
     * compute the revision of every copy
     */
    verify: boolean;
    /**
     * see `Backoff`
     */
    backoffBaseMs: number;
    /**
     * see `Backoff`
     */
    backoffCapMs: number;
    /**
     * how long a session must have been live to count as healthy
     */
    stableMs: number;
    /**
     * how long the token provider may take
     */
    tokenTimeoutMs: number;
    /**
     * how long the handshake may take
     */
    connectTimeoutMs: number;
    /**
     * how long the gateway may take to say ready
     */
    greetingTimeoutMs: number;
    /**
     * null means as often as the gateway's own heartbeat
     */
    pingIntervalMs: number | null;
    /**
     * how long the answer to a ping may take
     */
    pongTimeoutMs: number;
    /**
     * how long the answer to a request may take
     */
    requestTimeoutMs: number;
};
/**
 * What of that may be
 *   given: all of it, and `watch` as one name too.
 */
export type SessionOptions = Partial<Omit<Options, "watch">> & {
    watch?: string | Iterable<string>;
};
