/**
 * Call an application's function. What it throws, also later, is reported and breaks nothing.
 * @template T
 * @param {(news: T) => unknown} callback
 * @param {T} news
 * @param {(error: unknown) => void} report
 */
export function call<T>(callback: (news: T) => unknown, news: T, report: (error: unknown) => void): void;
/** @typedef {import("./errors.js").ChannelError} ChannelError */
/** @typedef {import("./events.js").Change} Change */
/** @typedef {import("./freshness.js").Freshness} Freshness */
/**
 * What there is to listen to, and what a callback is told.
 * @typedef {object} News
 * @property {Change} change a document is another one now
 * @property {Freshness} freshness another state of freshness begins
 * @property {ChannelError} trouble something went wrong that the channel deals with by itself
 * @property {Error | null} ended it is over for good; null when the application closed the channel
 */
/**
 * @typedef {object} Waiter Somebody waits for the next change.
 * @property {(result: IteratorResult<Change, undefined>) => void} resolve
 * @property {(error: unknown) => void} reject
 */
/**
 * An asynchronous iterator over changes that never holds more than one for each document.
 *
 * A reader that is slower than the changes gets fewer and larger ones, always ending at the truth. The iteration ends
 * when the channel is closed, and throws what stopped it for good.
 * @implements {AsyncIterableIterator<Change>}
 */
export class Changes implements AsyncIterableIterator<Change> {
    /**
     * @param {Iterable<Change>} begin
     * @param {(changes: Changes, isNeeded: boolean) => void} keep is told whether somebody waits for a change
     */
    constructor(begin: Iterable<Change>, keep: (changes: Changes, isNeeded: boolean) => void);
    /** Whether no change comes any more. */
    ended: boolean;
    /**
     * The next change.
     * @returns {Promise<IteratorResult<Change, undefined>>}
     */
    next(): Promise<IteratorResult<Change, undefined>>;
    /**
     * No change is wanted any more.
     * @returns {Promise<IteratorResult<Change, undefined>>}
     */
    return(): Promise<IteratorResult<Change, undefined>>;
    /**
     * Add a change.
     * @param {Change} next
     */
    put(next: Change): void;
    /**
     * No change comes any more; what waits can still be read.
     * @param {Error | null} error
     */
    end(error: Error | null): void;
    [Symbol.asyncIterator](): this;
    #private;
}
/** Everybody who listens to one channel. Iterations that nobody holds any more are forgotten by themselves. */
export class Listeners {
    /** @param {(error: unknown) => void} report is told what a callback throws */
    constructor(report: (error: unknown) => void);
    /**
     * Begin an iteration with these changes.
     * @param {Iterable<Change>} begin
     * @returns {Changes}
     */
    read(begin: Iterable<Change>): Changes;
    /**
     * Call back for all news of a kind until the result is called. Of an end that has been somebody is told soon.
     * @template {keyof News} K
     * @param {K} kind
     * @param {(news: News[K]) => unknown} callback
     * @returns {() => void}
     */
    on<K extends keyof News>(kind: K, callback: (news: News[K]) => unknown): () => void;
    /**
     * Tell everybody of a change.
     * @param {Change} news
     */
    changed(news: Change): void;
    /**
     * Call back whoever listens to this. What a callback throws, also later, is reported.
     * @template {keyof News} K
     * @param {K} kind
     * @param {News[K]} news
     */
    tell<K extends keyof News>(kind: K, news: News[K]): void;
    /**
     * Nothing happens any more; iterations throw `error` unless it is null. The first word counts.
     * @param {Error | null} error
     */
    end(error: Error | null): void;
    #private;
}
export type ChannelError = import("./errors.js").ChannelError;
export type Change = import("./events.js").Change;
export type Freshness = import("./freshness.js").Freshness;
/**
 * What there is to listen to, and what a callback is told.
 */
export type News = {
    /**
     * a document is another one now
     */
    change: Change;
    /**
     * another state of freshness begins
     */
    freshness: Freshness;
    /**
     * something went wrong that the channel deals with by itself
     */
    trouble: ChannelError;
    /**
     * it is over for good; null when the application closed the channel
     */
    ended: Error | null;
};
/**
 * Somebody waits for the next change.
 */
export type Waiter = {
    resolve: (result: IteratorResult<Change, undefined>) => void;
    reject: (error: unknown) => void;
};
