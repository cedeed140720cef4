/** Look-ups by names that come from outside. */

/**
 * What a record has under a name itself: of what it inherits, such as `constructor`, nothing.
 *
 * @template T
 * @param {Record<string, T> | null | undefined} record
 * @param {string} name
 * @returns {T | undefined}
 */
export function own(record, name) {
  return record && Object.hasOwn(record, name) ? record[name] : undefined;
}
