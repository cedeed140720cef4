/** Alarms that end together. */
export class Alarms {
    /** @param {Environment} environment */
    constructor(environment: Environment);
    /**
     * Call back when the clock shows `when`: never earlier, and later where timers are throttled.
     * @param {number} when milliseconds; infinite: never
     * @param {() => void} callback
     * @returns {() => void} what ends it
     */
    at(when: number, callback: () => void): () => void;
    /** End all of them. */
    clear(): void;
    #private;
}
export type Environment = import("./environment.js").Environment;
