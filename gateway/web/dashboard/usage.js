/** What was used of quotas while the page was open: bounded memory, coarser the longer it gets. */

/** @typedef {{at: number, used: number}} Sample  `at` in milliseconds since 1970 UTC */

const MOST_SAMPLES = 240;
const FINEST_MS = 250;

export class UsageHistory {
  constructor() {
    /** @type {Map<string, {samples: Sample[], stepMs: number}>} */
    this._quotas = new Map();
  }

  /**
   * Notes what is used of each quota now.
   *
   * @param {Record<string, {used: number}>} quotas
   * @param {number} at
   */
  note(quotas, at) {
    for (const [name, quota] of Object.entries(quotas)) {
      this._add(name, { at, used: quota.used });
    }
    for (const name of this._quotas.keys()) {
      if (!Object.hasOwn(quotas, name)) {
        this._quotas.delete(name);
      }
    }
  }

  /**
   * The samples of a quota, the oldest first.
   *
   * @param {string} name
   * @returns {readonly Sample[]}
   */
  of(name) {
    return this._quotas.get(name)?.samples ?? [];
  }

  /** @param {string} name @param {Sample} sample */
  _add(name, sample) {
    let history = this._quotas.get(name);
    if (history === undefined) {
      history = { samples: [], stepMs: FINEST_MS };
      this._quotas.set(name, history);
    }
    const { samples } = history;
    const last = samples.at(-1);
    if (last?.used === sample.used) {
      return;
    }
    if (last !== undefined && samples.length > 1 && sample.at - samples[samples.length - 2].at < history.stepMs) {
      samples[samples.length - 1] = sample;
      return;
    }
    samples.push(sample);
    if (samples.length > MOST_SAMPLES) {
      history.samples = samples.filter((_, index) => index % 2 === 0 || index === samples.length - 1);
      history.stepMs *= 2;
    }
  }
}
