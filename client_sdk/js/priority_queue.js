/** Ids in the order of their priority, of which any may be taken away or moved. */

// So many entries that do not count any more are kept beside those that do, before they are cleared away.
const SPARE = 64;

/** @typedef {{priority: number, place: number, id: string}} Entry */

/** @param {Entry} one @param {Entry} other */
const order = (one, other) => one.priority - other.priority || one.place - other.place;

/**
 * Each id once, with a number: a time that it is due, or a place. The lowest comes first; equal ones in the order in
 * which they were put.
 *
 * Every operation takes a time that grows with the logarithm of how many there are.
 */
export class PriorityQueue {
  /** @type {Map<string, Entry>} */
  #entries = new Map();
  /** @type {Entry[]} */
  #heap = []; // has entries too that were removed, or put anew
  #count = 0;

  /** How many there are. */
  get size() {
    return this.#entries.size;
  }

  /**
   * @param {string} id
   * @returns {boolean}
   */
  has(id) {
    return this.#entries.has(id);
  }

  /** The ids, in the order in which they came. */
  [Symbol.iterator]() {
    return [...this.#entries.keys()].values();
  }

  /**
   * Add an id, or move it.
   * @param {string} id
   * @param {number} priority finite
   */
  put(id, priority) {
    this.#count += 1;
    const entry = { priority, place: this.#count, id };
    this.#entries.set(id, entry);
    this.#heap.push(entry);
    this.#rise(this.#heap.length - 1);
    if (this.#heap.length > 2 * this.#entries.size + SPARE) {
      this.#heap = [...this.#entries.values()].sort(order);
    }
  }

  /**
   * Take an id away; whether it was there.
   * @param {string} id
   * @returns {boolean}
   */
  remove(id) {
    return this.#entries.delete(id);
  }

  /**
   * The lowest number; infinite when there is nothing.
   * @returns {number}
   */
  first() {
    const heap = this.#heap;
    while (heap.length > 0 && this.#entries.get(heap[0].id) !== heap[0]) {
      this.#pop();
    }
    return heap.length > 0 ? heap[0].priority : Infinity;
  }

  /**
   * Take away and return what comes first, unless its number is above `until`; null when there is nothing.
   * @param {number} [until]
   * @returns {string | null}
   */
  take(until = Infinity) {
    if (this.first() > until || this.#heap.length === 0) {
      return null;
    }
    const { id } = this.#pop();
    this.#entries.delete(id);
    return id;
  }

  /** Take everything away. */
  clear() {
    this.#entries.clear();
    this.#heap.length = 0;
  }

  /** @returns {Entry} */
  #pop() {
    const heap = this.#heap;
    const [top] = heap;
    const last = /** @type {Entry} */ (heap.pop());
    if (heap.length > 0) {
      heap[0] = last;
      this.#sink();
    }
    return top;
  }

  /** @param {number} at */
  #rise(at) {
    const heap = this.#heap;
    while (at > 0) {
      const above = (at - 1) >> 1;
      if (order(heap[above], heap[at]) <= 0) {
        return;
      }
      [heap[above], heap[at]] = [heap[at], heap[above]];
      at = above;
    }
  }

  #sink() {
    const heap = this.#heap;
    for (let at = 0; ;) {
      let least = at;
      for (const below of [2 * at + 1, 2 * at + 2]) {
        if (below < heap.length && order(heap[below], heap[least]) < 0) {
          least = below;
        }
      }
      if (least === at) {
        return;
      }
      [heap[at], heap[least]] = [heap[least], heap[at]];
      at = least;
    }
  }
}
