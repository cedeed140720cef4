/**
 * The number of the unit of time that `now` is in, and how much of it is over.
 *
 * Units are counted from the time that the key begins with. Where that is none, or one to come (then the SDK did not
 * make the key, or clocks are further apart than a unit), they are counted from 1970: in any case two times in one unit
 * have one number, and a later unit has another.
 * @param {string} key
 * @param {number} unitMs
 * @param {number} now milliseconds since 1970
 * @returns {{number: number, goneMs: number}}
 */
export function unitOf(key: string, unitMs: number, now: number): {
    number: number;
    goneMs: number;
};
/**
 * Meters what goes on in a function, a call for example.
 *
 *     const meter = new Meter(channel, "voice_minutes", { permission: "can_use_voice" });
 *     await meter.run(async (signal) => talk(signal));
 *
 * At the start of each unit of time it takes `amount` units, the first before the function begins. When that fails,
 * when `permission` is lost, or when the channel ends for good, it aborts the signal, and `run` rejects with
 * `MeterStopped`. A gateway that can not be asked, or does not answer, stops it after `graceMs`; until then the call
 * goes on, and what is due is asked for with the same key, so that nothing is charged twice.
 *
 * Time that nobody watched is not paid for: after it the call stops. A timer that rings more than `graceMs` late, and
 * clocks that say that the computer may have slept for longer than that, stop it with `offline`.
 *
 * A key that the SDK made says when the call began; the units of any other are those of the clock, each `unitMs` since
 * 1970, so that the first may be a short one.
 */
export class Meter {
    /**
     * @param {Channel} channel
     * @param {string} quota
     * @param {MeterOptions} [options]
     */
    constructor(channel: Channel, quota: string, options?: MeterOptions);
    /** What names the call. */
    key: string;
    /**
     * How many units of time were paid.
     * @returns {number}
     */
    get units(): number;
    /**
     * What the quota stood at after the last one; null before the first.
     * @returns {Balance | null}
     */
    get balance(): Balance | null;
    /**
     * Why the function was stopped; null while it was not.
     * @returns {MeterStopped | null}
     */
    get stopped(): MeterStopped | null;
    /**
     * Run a function while it is paid for. Its result is that of this one; when the meter stops, nobody waits for it any
     * more.
     * @template T
     * @param {(signal: AbortSignal) => T | Promise<T>} body is told by the signal that it is to end
     * @returns {Promise<T>}
     */
    run<T>(body: (signal: AbortSignal) => T | Promise<T>): Promise<T>;
    #private;
}
export type Channel = import("./channel.js").Channel;
export type Freshness = import("./freshness.js").Freshness;
export type Balance = import("./quota.js").Balance;
export type MeterOptions = {
    /**
     * how long a unit of time is, 60,000 when not given
     */
    unitMs?: number | undefined;
    /**
     * what each costs, 1 when not given
     */
    amount?: number | undefined;
    /**
     * what the user must have all the time
     */
    permission?: string | null | undefined;
    /**
     * an organization whose pool pays
     */
    org?: string | null | undefined;
    /**
     * at most 116 characters that name the call: the same call begun again goes on with the
     * unit of now, and is not charged again for one that it had
     */
    key?: string | null | undefined;
    /**
     * how long the call goes on without a connection, without an answer to what is due, or
     * without a timer that rings for it, 90,000 when not given: timers of a hidden page ring once a minute
     */
    graceMs?: number | undefined;
    /**
     * called whenever the level becomes `low`, `critical` or
     * `exhausted`
     */
    onLow?: ((balance: Balance) => unknown) | null | undefined;
};
import { MeterStopped } from "./errors.js";
