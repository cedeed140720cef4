/**
 * Compares what the SDK makes of documents and frames with what the Python SDK made of them.
 *
 *     node vectors.mjs FILE      written by `tests/client_sdk/test_js_port.py`
 */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

import { apply, canonical, diff, revision } from "../../../../client_sdk/js/document.js";
import { MalformedMessage } from "../../../../client_sdk/js/errors.js";
import { decode } from "../../../../client_sdk/js/wire.js";

const { documents, patches, frames } = JSON.parse(readFileSync(process.argv[2], "utf8"));

for (const { text, canonical: written, rev } of documents) {
  assert.equal(canonical(JSON.parse(text)), written);
  assert.equal(await revision(written, crypto.subtle), rev);
}

for (const { before, after, patch, result } of patches) {
  const [from, to] = [JSON.parse(before), JSON.parse(after)];
  assert.equal(canonical(diff(from, to)), patch);
  assert.equal(canonical(apply(from, JSON.parse(patch))), result);
  assert.equal(canonical(from), canonical(JSON.parse(before)), "the document stays");
}

for (const { frame, message } of frames) {
  assert.deepEqual(verdict(frame), message, frame);
}

/** The message as the Python SDK names its fields; what is wrong with it as a word. */
function verdict(frame) {
  let message;
  try {
    message = decode(frame);
  } catch (error) {
    assert.ok(error instanceof MalformedMessage, String(error));
    return "malformed";
  }
  if (message === null) {
    return "unknown";
  }
  const fields = Object.entries(message).map(([name, value]) => [
    name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
    value instanceof Map ? Object.fromEntries(value) : value,
  ]);
  return JSON.parse(JSON.stringify(Object.fromEntries(fields)));
}
