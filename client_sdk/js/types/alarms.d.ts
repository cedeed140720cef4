/** Alarms that end together, on one timer. */
export class Alarms {
    /**
     * @param {Environment} environment
     * @param {() => void} [look] is called whenever the timer fires, before those that are due
     */
    constructor(environment: Environment, look?: () => void);
    /**
     * Call back when the clock shows `when`: never earlier, and later where timers are throttled.
     * @param {number} when milliseconds; infinite: never
     * @param {() => void} callback
     * @returns {() => void} what ends it
     */
    at(when: number, callback: () => void): () => void;
    /** Call back those that are due, the oldest first; also where the timer is late. */
    ring(): void;
    /** End all of them. */
    clear(): void;
    #private;
}
/**
 * Compares the two clocks. The steady one stands still on some systems while the computer sleeps; the wall's clock does
 * not, but may be set by anybody. So what is seen here is a reason to look closer, and no more than that.
 */
export class Gaps {
    /** @param {Environment} environment */
    constructor(environment: Environment);
    /**
     * Call back when, since the last look, so much more time may have passed than the steady clock says.
     * @param {(gapMs: number) => void} callback
     * @returns {() => void} what ends it
     */
    on(callback: (gapMs: number) => void): () => void;
    /** Look at the clocks, and call back if there is reason to. */
    look(): void;
    #private;
}
export type Environment = import("./environment.js").Environment;
export type Alarm = {
    when: number;
    callback: () => void;
};
