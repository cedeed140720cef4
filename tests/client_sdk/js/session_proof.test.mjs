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

test("texts are looked through once, when the frame is read", () => {
  const looked = [];
  const { test: tests } = RegExp.prototype;
  const driver = new Driver().live();
  const data = { ...ADA, note: "a text like no other" };
  const frame = JSON.stringify(snapshot(SELF, data, 11));
  RegExp.prototype.test = function (text) {
    looked.push(text);
    return tests.call(this, text);
  };
  try {
    driver.frame(frame);
  } finally {
    RegExp.prototype.test = tests;
  }
  assert.deepEqual(driver.data(), data);
  assert.equal(looked.filter((text) => text === data.note).length, 1);
});

test("one digest proves updates that follow each other", () => {
  const driver = new Driver().live();
  const [first, second, third] = steps();
  const frames = [first, second, third].map((message) => JSON.stringify(message));
  const others = [JSON.stringify(snapshot("user:other", LESS, 3)), '{"op":"later"}', "{"];
  const candidate = driver.session.candidate(frames[0], null, [...others, frames[1], frames[2]]);
  assert.deepEqual(
    candidate.messages.map(({ seq }) => seq),
    [11, 12, 13],
  );
  const proof = { candidate, rev: third.rev };
  assert.equal(driver.session.candidate(frames[0], proof), null);
  const change = only("change", driver.feed(received(frames[2], proof)));
  assert.deepEqual([change.before, change.rev, change.seq], [ADA, third.rev, 13]);
  assert.deepEqual(change.causes, ["plan", "permissions", "clock"]);
  assert.deepEqual([driver.session.replica.get(SELF).rev, driver.session.replica.mismatches], [third.rev, 0]);
});

test("a chain ends where another copy comes between, or where it does not fit", () => {
  const [first, second, third] = steps();
  const between = [
    snapshot(SELF, ADA, 12),
    { op: "gone", doc: SELF },
    { ...second, from: "0".repeat(16) },
    { ...second, seq: 10 },
  ];
  for (const message of between) {
    const driver = new Driver().live();
    const following = [message, second, third].map((frame) => JSON.stringify(frame));
    assert.equal(driver.session.candidate(JSON.stringify(first), null, following).messages.length, 1, message.op);
  }
});

test("a chain that is wrong proves none of its updates", () => {
  const driver = new Driver().live();
  const [first, second] = steps().map((message) => JSON.stringify(message));
  const candidate = driver.session.candidate(first, null, [second]);
  const effects = driver.feed(received(second, { candidate, rev: "0".repeat(16) }));
  assert.deepEqual(
    sent(effects).map(({ op }) => op),
    ["sync"],
  );
  assert.deepEqual(driver.data(), ADA);
});

/** Three updates, each from where the one before leads to. */
function steps() {
  const names = ["a", "b", "c"];
  const data = [ADA, ...names.map((name) => ({ ...ADA, identity: { ...ADA.identity, name } }))];
  return names.map((name, index) => ({
    ...update(11 + index, { from: revisionOf(data[index]), rev: revisionOf(data[index + 1]) }),
    patch: { identity: { name } },
    causes: [["plan"], ["permissions", "plan"], ["clock"]][index],
  }));
}
