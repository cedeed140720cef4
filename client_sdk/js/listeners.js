/** Those who want to know what happens: iterations and callbacks. */

import { change } from "./events.js";

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
export class Changes {
  /** @type {Map<string, Change>} */
  #changes = new Map();
  /** @type {Waiter[]} */
  #readers = [];
  #keep;
  /** @type {Error | null} */
  #error = null;

  /**
   * @param {Iterable<Change>} begin
   * @param {(changes: Changes, isNeeded: boolean) => void} keep is told whether somebody waits for a change
   */
  constructor(begin, keep) {
    this.#keep = keep;
    /** Whether no change comes any more. */
    this.ended = false;
    for (const first of begin) {
      this.#changes.set(first.doc, first);
    }
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  /**
   * The next change.
   * @returns {Promise<IteratorResult<Change, undefined>>}
   */
  next() {
    return new Promise((resolve, reject) => {
      this.#readers.push({ resolve, reject });
      this.#serve();
    });
  }

  /**
   * No change is wanted any more.
   * @returns {Promise<IteratorResult<Change, undefined>>}
   */
  return() {
    this.#changes.clear();
    this.end(null);
    return Promise.resolve({ done: true, value: undefined });
  }

  /**
   * Add a change.
   * @param {Change} next
   */
  put(next) {
    if (this.ended) {
      return;
    }
    const earlier = this.#changes.get(next.doc);
    this.#changes.set(next.doc, earlier === undefined ? next : merged(earlier, next));
    this.#serve();
  }

  /**
   * No change comes any more; what waits can still be read.
   * @param {Error | null} error
   */
  end(error) {
    if (!this.ended) {
      this.#error = error;
    }
    this.ended = true;
    this.#serve();
  }

  /** Give those who wait what there is. */
  #serve() {
    while (this.#readers.length > 0 && (this.#changes.size > 0 || this.ended)) {
      const reader = /** @type {Waiter} */ (this.#readers.shift());
      const [next] = this.#changes.values();
      const error = this.#error;
      if (next !== undefined) {
        this.#changes.delete(next.doc);
        reader.resolve({ done: false, value: next });
      } else if (error !== null) {
        this.#error = null;
        reader.reject(error);
      } else {
        reader.resolve({ done: true, value: undefined });
      }
    }
    this.#keep(this, this.#readers.length > 0);
  }
}

/**
 * Two changes of a document in one.
 * @param {Change} earlier
 * @param {Change} later
 * @returns {Change}
 */
function merged(earlier, later) {
  const { doc, data, rev, seq } = later;
  const kind = later.kind === "update" && earlier.kind === "snapshot" ? "snapshot" : later.kind;
  const causes = Object.freeze([...new Set([...earlier.causes, ...later.causes])]);
  return change({ doc, kind, before: earlier.before, data, rev, seq, causes });
}

/**
 * Call an application's function. What it throws, also later, is reported and breaks nothing.
 * @template T
 * @param {(news: T) => unknown} callback
 * @param {T} news
 * @param {(error: unknown) => void} report
 */
export function call(callback, news, report) {
  try {
    const returned = /** @type {any} */ (callback(news));
    if (typeof returned?.then === "function") {
      returned.then(undefined, report);
    }
  } catch (error) {
    report(error);
  }
}

/** Everybody who listens to one channel. Iterations that nobody holds any more are forgotten by themselves. */
export class Listeners {
  #report;
  /** @type {Set<WeakRef<Changes>>} */
  #iterations = new Set();
  /**
   * Nothing else holds an iteration in which somebody waits.
   * @type {Set<Changes>}
   */
  #awaited = new Set();
  /** @type {Map<string, Set<{callback: (news: any) => unknown}>>} */
  #callbacks = new Map(["change", "freshness", "trouble", "ended"].map((kind) => [kind, new Set()]));
  #ended = false;
  /** @type {Error | null} */
  #error = null;

  /** @param {(error: unknown) => void} report is told what a callback throws */
  constructor(report) {
    this.#report = report;
  }

  /**
   * Begin an iteration with these changes.
   * @param {Iterable<Change>} begin
   * @returns {Changes}
   */
  read(begin) {
    const changes = new Changes(begin, (reader, isNeeded) => {
      if (isNeeded) {
        this.#awaited.add(reader);
      } else {
        this.#awaited.delete(reader);
      }
    });
    if (this.#ended) {
      changes.end(this.#error);
    } else {
      this.#iterations.add(new WeakRef(changes));
    }
    return changes;
  }

  /**
   * Call back for all news of a kind until the result is called. Of an end that has been somebody is told soon.
   * @template {keyof News} K
   * @param {K} kind
   * @param {(news: News[K]) => unknown} callback
   * @returns {() => void}
   */
  on(kind, callback) {
    const callbacks = this.#callbacks.get(kind);
    if (callbacks === undefined) {
      throw new TypeError(`there is nothing called ${String(kind)} to listen to`);
    }
    if (typeof callback !== "function") {
      throw new TypeError("a callback is a function");
    }
    const entry = { callback };
    callbacks.add(entry);
    if (kind === "ended" && this.#ended) {
      const late = () => call(entry.callback, /** @type {any} */ (this.#error), this.#report);
      queueMicrotask(() => callbacks.has(entry) && late());
    }
    return () => {
      callbacks.delete(entry);
    };
  }

  /**
   * Tell everybody of a change.
   * @param {Change} news
   */
  changed(news) {
    for (const reader of this.#held()) {
      reader.put(news);
    }
    this.tell("change", news);
  }

  /**
   * Call back whoever listens to this. What a callback throws, also later, is reported.
   * @template {keyof News} K
   * @param {K} kind
   * @param {News[K]} news
   */
  tell(kind, news) {
    const callbacks = this.#callbacks.get(kind) ?? new Set();
    for (const entry of [...callbacks]) {
      if (!callbacks.has(entry)) {
        continue;
      }
      call(entry.callback, news, this.#report);
    }
  }

  /**
   * Nothing happens any more; iterations throw `error` unless it is null. The first word counts.
   * @param {Error | null} error
   */
  end(error) {
    if (this.#ended) {
      return;
    }
    this.#ended = true;
    this.#error = error;
    for (const reader of this.#held()) {
      reader.end(error);
    }
    this.#iterations.clear();
    this.tell("ended", error);
  }

  /** @returns {Changes[]} those that somebody still holds */
  #held() {
    const held = [];
    for (const reference of this.#iterations) {
      const reader = reference.deref();
      if (reader === undefined || reader.ended) {
        this.#iterations.delete(reference);
      } else {
        held.push(reader);
      }
    }
    return held;
  }
}
