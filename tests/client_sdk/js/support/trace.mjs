/**
 * Leads a session through lives that the Python SDK's session led, and compares everything that it does.
 *
 *     node trace.mjs FILE        each line of FILE is one life, written by `tests/client_sdk/support/trace.py`
 */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

import { Disconnected } from "../../../../client_sdk/js/errors.js";
import { makeOptions } from "../../../../client_sdk/js/options.js";
import { Session } from "../../../../client_sdk/js/session.js";

const digest = (text) => createHash("sha256").update(text).digest("hex").slice(0, 16);

class Life {
  constructor() {
    this.session = new Session(makeOptions({ watch: ["self", "user:u_b"], backoffBaseMs: 250 }));
    this.now = 1_000_000;
  }

  step({ event, chance, effects, seen }, number) {
    const { afterMs, ...happens } = event;
    if (event.type === "tick") {
      this.now = afterMs === null ? Math.max(this.now, this.session.deadline) : this.now + afterMs;
    }
    if (event.type === "tokenFailed") {
      happens.cause = event.away ? new Disconnected(event.cause) : new Error(event.cause);
    }
    if (event.type === "received") {
      happens.proof = this.prove(event.frame);
    }
    const done = this.session.handle(happens, this.now, chance).map(writtenEffect);
    alike(inOrder(done), inOrder(effects), `step ${number}, ${JSON.stringify(event)}: effects`);
    alike(this.seen(), seen, `step ${number}, ${JSON.stringify(event)}: seen`);
  }

  prove(frame) {
    let proof = null;
    for (let wanted = this.session.candidate(frame); wanted !== null; wanted = this.session.candidate(frame, proof)) {
      proof = { candidate: wanted, rev: digest(wanted.text) };
    }
    return proof;
  }

  seen() {
    const { condition, expiresAt, principal, id, epoch, malformed, replica, deadline } = this.session;
    const { mismatches } = replica;
    const dueInMs = deadline === Infinity ? null : deadline - this.now;
    const held = [...replica].map((doc) => {
      const { rev, seq, standing, stale, verified } = replica.get(doc);
      return [doc, rev, seq, standing, stale, verified];
    });
    const freshness = this.session.freshness(this.now);
    const complete = this.session.complete();
    return { condition, dueInMs, freshness, expiresAt, principal, id, epoch, malformed, mismatches, complete, held };
  }
}

/** Documents that are dropped at once are dropped in any order. */
function inOrder(effects) {
  const isGone = ({ type, kind }) => type === "change" && kind === "gone";
  const sorted = [...effects];
  for (let end = 1; end < sorted.length; end += 1) {
    for (
      let at = end;
      at > 0 && isGone(sorted[at]) && isGone(sorted[at - 1]) && sorted[at].doc < sorted[at - 1].doc;
      at -= 1
    ) {
      [sorted[at - 1], sorted[at]] = [sorted[at], sorted[at - 1]];
    }
  }
  return sorted;
}

function writtenEffect(effect) {
  const { type, id = null } = effect;
  switch (type) {
    case "send":
      return { type, message: JSON.parse(effect.frame) };
    case "change": {
      const { doc, kind, before, data, rev, seq, causes, patch } = effect;
      return { type, doc, kind, before, data, rev, seq, causes, patch };
    }
    case "freshnessChanged":
      return { type, state: effect.freshness.state };
    case "resolve":
      return { type, id, value: writtenValue(effect.value) };
    case "reject":
    case "trouble":
    case "stopped":
      return { type, id, error: writtenError(effect.error) };
  }
  return effect;
}

function writtenValue(value) {
  if (value?.op === "reply") {
    const { op: _, ...fields } = value;
    const named = Object.entries(fields).map(([name, field]) => [
      name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      field,
    ]);
    return Object.fromEntries(named);
  }
  if (value?.refused instanceof Map) {
    const refused = [...value.refused].map(([doc, error]) => [doc, writtenError(error)]);
    return { docs: value.docs, refused: Object.fromEntries(refused) };
  }
  return value;
}

function writtenError(error) {
  if (error === null) {
    return null;
  }
  const { name, code, retryAfterS, doc, key, quota, remaining, resetsAt } = error;
  const message = code === "malformed_message" ? "" : error.message;
  const details = quota === undefined ? {} : { quota, remaining, resetsAt };
  return { name, code, message, retryAfterS, doc, key, ...details };
}

/** The same, numbers up to what adding seconds instead of milliseconds makes of them. */
function alike(actual, expected, what) {
  const [ours, theirs] = [actual, expected].map((value) => JSON.parse(JSON.stringify(value)));
  assert.deepEqual(rounded(ours, theirs), theirs, what);
}

function rounded(ours, theirs) {
  if (typeof ours === "number" && typeof theirs?.ms === "number") {
    return { ms: rounded(ours, theirs.ms) };
  }
  if (typeof ours === "number" && typeof theirs === "number") {
    return Math.abs(ours - theirs) < 1e-6 ? theirs : ours;
  }
  if (ours !== null && theirs !== null && typeof ours === "object" && typeof theirs === "object") {
    const fields = Object.entries(ours).map(([name, value]) => [name, rounded(value, theirs[name])]);
    return Array.isArray(ours) ? fields.map(([, value]) => value) : Object.fromEntries(fields);
  }
  return ours;
}

for (const [number, line] of readFileSync(process.argv[2], "utf8").trimEnd().split("\n").entries()) {
  const life = new Life();
  try {
    JSON.parse(line).forEach((step, index) => life.step(step, index));
  } catch (error) {
    error.message = `life ${number}, ${error.message}`;
    throw error;
  }
}
