import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import { test } from "node:test";

import { Intake } from "../../../client_sdk/js/intake.js";
import { ADA, Driver, LESS, SELF, every, revisionOf, sent, snapshot } from "./support/driver.mjs";

const OTHER = "user:u_b";
const ENDED = { op: "ended", code: "revoked", message: "Out.", reconnect: "never" };

/** A session behind an intake whose digests come when the test says so. */
class Slow {
  digests = [];
  faults = [];

  constructor(options = {}) {
    this.driver = new Driver({ watch: ["self", OTHER], ...options }).live();
    this.driver.server(snapshot(OTHER, ADA, 10));
    this.driver.effects.length = 0;
    const digest = (_, bytes) => {
      const value = new Uint8Array(createHash("sha256").update(bytes).digest()).buffer;
      return new Promise((resolve) => this.digests.push(() => resolve(value)));
    };
    const feed = (event) => this.driver.feed(event);
    this.intake = new Intake(this.driver.session, { digest }, feed, (fault) => this.faults.push(fault));
  }

  put(...messages) {
    for (const message of messages) {
      this.intake.put({ type: "received", frame: JSON.stringify(message) });
    }
  }

  /** Let digests come; how many it took. */
  async prove(most = Infinity) {
    let count = 0;
    for (await setImmediate(); this.digests.length > 0 && count < most; await setImmediate()) {
      this.digests.shift()();
      count += 1;
    }
    return count;
  }

  names(doc = SELF) {
    return every("change", this.driver.effects)
      .filter((change) => change.doc === doc)
      .map(({ data }) => data.identity?.name);
  }

  get session() {
    return this.driver.session;
  }
}

const named = (name) => ({ ...ADA, identity: { ...ADA.identity, name } });

/** Updates of a document, each from where the one before leads to. */
function updates(count, doc = SELF) {
  let before = ADA;
  return Array.from({ length: count }, (_, index) => {
    const data = named(`n${index}`);
    const message = { op: "update", doc, from: revisionOf(before), rev: revisionOf(data), seq: 11 + index };
    before = data;
    return { ...message, patch: { identity: { name: `n${index}` } } };
  });
}

test("an end waits for no digest, and what waited for one is dropped", async () => {
  for (const end of [
    (slow) => slow.put(ENDED),
    (slow) => slow.intake.put({ type: "lost", code: 4500, reason: "" }),
  ]) {
    const slow = new Slow();
    slow.put(...updates(200));
    end(slow);
    assert.equal(slow.session.condition, "stopped", "in the same breath");
    assert.deepEqual(slow.session.replica.documents(), {});
    slow.intake.put({ type: "lost", code: 1006, reason: "" });
    const { length } = slow.driver.effects;
    await slow.prove();
    assert.deepEqual([slow.driver.effects.length, slow.faults], [length, []], "what is proved then is nobody's");
  }
});

test("an end from which the channel comes back drops nothing that resuming does not repair", async () => {
  const slow = new Slow();
  slow.put(...updates(3), { ...ENDED, code: "going_away", reconnect: "now" });
  assert.equal(slow.session.condition, "waiting");
  await slow.prove();
  slow.driver.connect();
  const [auth] = sent(slow.driver.greet());
  assert.deepEqual(auth.watch, [`self@${revisionOf(ADA)}`, `${OTHER}@${revisionOf(ADA)}`]);
});

test("a loss without a reason, and documents that tell of ends, wait for their turn", async () => {
  const slow = new Slow();
  const [first] = updates(1);
  slow.put(first, { ...snapshot(OTHER, { ended: "ended", op: "ended" }, 12) });
  slow.intake.put({ type: "lost", code: 1006, reason: "" });
  assert.equal(slow.session.condition, "live");
  await slow.prove();
  assert.deepEqual([slow.session.condition, slow.names()], ["waiting", ["n0"]]);
  assert.deepEqual(slow.driver.data(OTHER), { ended: "ended", op: "ended" });
});

test("updates that follow each other are proved and told as one, the others in their order", async () => {
  const slow = new Slow();
  const [ours, theirs] = [updates(50), updates(50, OTHER)];
  slow.put(...ours.flatMap((message, index) => [message, theirs[index]]), { op: "gone", doc: OTHER });
  assert.equal(await slow.prove(), 3);
  assert.deepEqual([slow.names(), slow.names(OTHER)], [["n0", "n49"], ["n49", undefined]]);
  assert.equal(every("change", slow.driver.effects).at(-1).kind, "gone");
  assert.deepEqual([slow.driver.data(), slow.session.replica.mismatches], [named("n49"), 0]);
});

test("where one of them is wrong each is proved by itself, as far as they are right", async () => {
  const slow = new Slow();
  const messages = updates(4);
  messages[2].patch = { forged: true };
  slow.put(...messages);
  await slow.prove();
  assert.deepEqual(slow.names(), ["n0", "n1"]);
  assert.equal(slow.session.replica.mismatches, 1);
  assert.deepEqual(
    sent(slow.driver.effects).map(({ op, doc }) => [op, doc]),
    [["sync", SELF]],
  );
});

test("what waits for a digest that never comes is bounded, and asked for again", async () => {
  const slow = new Slow();
  slow.put(...updates(10_000));
  const syncs = sent(slow.driver.effects).filter(({ op }) => op === "sync");
  assert.ok(syncs.length >= 1 && syncs.length < 20, String(syncs.length));
  assert.deepEqual([slow.session.condition, slow.driver.freshness.reason], ["live", "document"]);
  slow.put({ op: "reply", id: syncs.at(-1).id, doc: SELF }, snapshot(SELF, LESS, 20_000));
  await slow.prove();
  assert.deepEqual([slow.driver.data(), slow.driver.freshness.state], [LESS, "live"]);
});

test("what waits is bounded by its size, and only the documents that wait longest are dropped", async () => {
  const slow = new Slow();
  const large = "x".repeat(2 ** 20);
  slow.put(...updates(1));
  for (let seq = 20; seq < 40; seq += 1) {
    slow.put(snapshot(SELF, { ...ADA, large, seq }, seq));
  }
  slow.put(...updates(1, OTHER));
  assert.deepEqual(
    sent(slow.driver.effects).map(({ op, doc }) => [op, doc]),
    [["sync", SELF]],
  );
  await slow.prove();
  assert.deepEqual(slow.names(OTHER), ["n0"]);
});

test("an event that needs no proof is handed over at once", () => {
  const slow = new Slow();
  slow.put({ op: "current", doc: SELF, rev: revisionOf(ADA), seq: 12 });
  assert.equal(slow.session.replica.get(SELF).seq, 12);
  slow.intake.stop();
  slow.put(ENDED);
  assert.equal(slow.session.condition, "live", "nothing is after the end");
});
