import assert from "node:assert/strict";
import { test } from "node:test";

import { ADA, Driver, LESS, SELF, every, only, revisionOf, sent, snapshot, update } from "./support/driver.mjs";

const REV = revisionOf(ADA);
const received = (frame, proof) => ({ type: "received", frame, proof });

test("what has to be proved is the canonical JSON of the copy", () => {
  const driver = new Driver().live();
  const frame = JSON.stringify(update(11));
  const candidate = driver.session.candidate(frame);
  assert.deepEqual(JSON.parse(candidate.text), LESS);
  assert.equal(driver.session.candidate(frame, { candidate, rev: "whatever" }), null);
  const effects = driver.feed(received(frame, { candidate, rev: revisionOf(LESS) }));
  assert.deepEqual(only("change", effects).data, LESS);
});

test("only copies that would be held are to be proved", () => {
  const driver = new Driver();
  const frame = (message) => JSON.stringify(message);
  assert.equal(driver.session.candidate(frame(snapshot(SELF, ADA, 1))), null, "not live");
  driver.live();
  const nothing = [
    snapshot("user:other", ADA, 11),
    snapshot(SELF, LESS, 9),
    update(11, { from: "0".repeat(16) }),
    update(9),
    { op: "current", doc: SELF, rev: REV, seq: 11 },
    { op: "later" },
    7,
  ];
  for (const message of nothing) {
    assert.equal(driver.session.candidate(frame(message)), null, frame(message));
  }
  assert.equal(driver.session.candidate("{"), null);
  assert.equal(driver.session.candidate(new ArrayBuffer(2)), null);
  assert.notEqual(driver.session.candidate(frame(snapshot(SELF, LESS, 11))), null);
});

test("a proof of something else proves nothing", () => {
  const driver = new Driver().live();
  const [right, wrong] = [JSON.stringify(update(11)), JSON.stringify(update(11, { rev: "1".repeat(16) }))];
  const candidate = driver.session.candidate(wrong);
  const effects = driver.feed(received(right, { candidate, rev: revisionOf(LESS) }));
  assert.deepEqual(
    sent(effects).map(({ op }) => op),
    ["sync"],
  );
  assert.equal(driver.session.replica.mismatches, 1);
  assert.deepEqual(driver.data(), ADA);
});

test("a copy without a proof, or with a wrong one, is not believed", () => {
  for (const prove of [() => null, (candidate) => ({ candidate, rev: "f".repeat(16) })]) {
    const driver = new Driver().live();
    const frame = JSON.stringify(update(11));
    const effects = driver.feed(received(frame, prove(driver.session.candidate(frame))));
    assert.deepEqual(
      sent(effects).map(({ op }) => op),
      ["sync"],
    );
    assert.deepEqual(driver.data(), ADA);
    assert.equal(driver.session.replica.mismatches, 1);
  }
});

test("a proof is void when the application gave up the document meanwhile", () => {
  const driver = new Driver().live();
  const frame = JSON.stringify(update(11));
  const proof = { candidate: driver.session.candidate(frame), rev: revisionOf(LESS) };
  driver.feed({ type: "unwatchDocuments", id: "1", docs: ["self"] });
  assert.equal(driver.session.candidate(frame, proof), null);
  assert.deepEqual(driver.feed(received(frame, proof)), []);
  driver.feed({ type: "watchDocuments", id: "2", docs: ["self"] });
  assert.deepEqual(
    sent(driver.feed(received(frame, proof))).map(({ op }) => op),
    ["sync"],
  );
});

test("a proof is computed again when the copy came another way meanwhile", () => {
  const driver = new Driver().live();
  const frame = JSON.stringify(update(12));
  const early = { candidate: driver.session.candidate(frame), rev: revisionOf(LESS) };
  driver.feed({ type: "unwatchDocuments", id: "1", docs: ["self"] });
  driver.feed({ type: "watchDocuments", id: "2", docs: ["self"] });
  driver.server(snapshot(SELF, JSON.parse(JSON.stringify(ADA)), 11));
  const again = driver.session.candidate(frame, early);
  assert.notEqual(again, null);
  const effects = driver.feed(received(frame, { candidate: again, rev: revisionOf(LESS) }));
  assert.deepEqual(only("change", effects).data, LESS);
});

test("without verification the gateway is believed, and nothing is to be proved", () => {
  const driver = new Driver({ verify: false }).live();
  const frame = JSON.stringify(update(11, { rev: "1".repeat(16) }));
  assert.equal(driver.session.candidate(frame), null);
  assert.deepEqual(only("change", driver.feed(received(frame))).data, LESS);
  assert.equal(driver.session.replica.mismatches, 0);
});

test("documents can not reach what objects inherit", () => {
  const driver = new Driver().live();
  const poison = JSON.parse('{"permissions":{"__proto__":{"admin":true},"constructor":true}}');
  const change = only("change", driver.server(snapshot(SELF, poison, 11)));
  assert.equal({}.admin, undefined);
  assert.deepEqual(Object.keys(change.data.permissions), ["__proto__", "constructor"]);
  const patched = JSON.parse('{"permissions":{"__proto__":{"admin":true},"constructor":true,"x":true}}');
  const patch = { permissions: { x: true } };
  driver.server(update(12, { from: revisionOf(poison), rev: revisionOf(patched), patch }));
  assert.equal(JSON.stringify(driver.data()), JSON.stringify(patched));
  assert.equal(driver.data().permissions.admin, undefined);
  driver.server(snapshot("__proto__", ADA, 13));
  assert.deepEqual(every("trouble", driver.effects), []);
  assert.deepEqual(Object.keys(driver.session.replica.documents()), [SELF]);
});
