import assert from "node:assert/strict";
import { test } from "node:test";

import {
  BadRequest,
  Disconnected,
  EpochChanged,
  NotFound,
  RequestTimeout,
  TooLarge,
} from "../../../client_sdk/js/errors.js";
import { ADA, Driver, LESS, SELF, every, only, revisionOf, sent, snapshot, update } from "./support/driver.mjs";

const REV = revisionOf(ADA);
const watch = (id, ...docs) => ({ type: "watchDocuments", id, docs });
const unwatch = (id, ...docs) => ({ type: "unwatchDocuments", id, docs });
const awaitSeq = (id, seq) => ({ type: "awaitSeq", id, seq });
const notFound = (id, doc) => ({ op: "error", id, code: "not_found", message: "No.", doc });

function answerSync(driver, { id, op, doc }, data, seq) {
  assert.equal(op, "sync");
  return driver.server({ op: "reply", id, doc }, snapshot(SELF, data, seq));
}

test("watching is done when the documents are there", () => {
  const driver = new Driver().live();
  const [request] = sent(driver.feed(watch("1", "user:u_b", "self", "user:u_x", "user:u_b")));
  assert.deepEqual(request, { op: "watch", id: "1", docs: ["user:u_b", `self@${REV}`, "user:u_x"] });
  const early = driver.server({ op: "reply", id: "1", docs: ["user:u_b", SELF] }, notFound("1", "user:u_x"));
  assert.deepEqual(every("resolve", early), []);
  const { value } = only("resolve", driver.server(snapshot("user:u_b", LESS, 12)));
  assert.deepEqual(value.docs, ["user:u_b", SELF]);
  assert.ok(value.refused.get("user:u_x") instanceof NotFound);
  assert.deepEqual([...driver.session.replica], [SELF, "user:u_b"]);
});

test("a watch of which nothing is accepted fails", () => {
  const driver = new Driver().live();
  driver.feed(watch("1", "user:u_x", "user:u_y"));
  assert.deepEqual(every("reject", driver.server(notFound("1", "user:u_x"))), []);
  const { error } = only("reject", driver.server(notFound("1", "user:u_y")));
  assert.ok(error instanceof NotFound);
  assert.equal(error.doc, "user:u_x");
});

test("a watch that is refused as a whole leaves what was watched", () => {
  const driver = new Driver().live();
  driver.feed(watch("1", "self", "user:u_x"));
  const effects = driver.server({ op: "error", id: "1", code: "bad_request", message: "No." });
  assert.ok(only("reject", effects).error instanceof BadRequest);
  assert.deepEqual([...driver.session.replica], [SELF]);
});

test("unwatching drops what is held", () => {
  const driver = new Driver({ watch: ["self", "user:u_b"] }).live();
  driver.server(snapshot("user:u_b", LESS, 9));
  const effects = driver.feed(unwatch("1", "user:u_b"));
  assert.equal(only("change", effects).kind, "gone");
  assert.deepEqual(sent(effects), [{ op: "unwatch", id: "1", docs: ["user:u_b"] }]);
  assert.deepEqual(driver.server(snapshot("user:u_b", ADA, 12)), []);
  const done = driver.server({ op: "reply", id: "1", docs: ["user:u_b"] });
  assert.deepEqual(done, [{ type: "resolve", id: "1", value: null }]);
});

test("wishes that change during the handshake are made good", () => {
  const driver = new Driver({ watch: ["self", "user:u_a"] }).live();
  driver.lose();
  driver.connect();
  driver.server({
    op: "hello",
    protocol: 1,
    node: "n1",
    epoch: "e1",
    server_time: "",
    heartbeat_s: 25,
    auth_timeout_s: 10,
    max_frame_bytes: 16384,
  });
  assert.ok(only("reject", driver.feed(watch("1", "user:u_b"))).error instanceof Disconnected);
  driver.feed(unwatch("2", "user:u_a"));
  const messages = sent(driver.server({ op: "ready", session: "s2", principal: SELF }));
  assert.deepEqual(
    messages.map(({ op, docs }) => [op, docs]),
    [
      ["unwatch", ["user:u_a"]],
      ["watch", ["user:u_b"]],
    ],
  );
});

test("a long list is asked for in pieces", () => {
  const docs = Array.from({ length: 2000 }, (_, number) => `user:ü_${String(number).padStart(6, "0")}`);
  const driver = new Driver({ watch: docs });
  driver.connect();
  const pieces = every("send", driver.greet()).map(({ frame }) => frame);
  assert.ok(pieces.length > 2);
  assert.ok(pieces.every((frame) => Buffer.byteLength(frame) <= 16384));
  const [auth, ...watches] = pieces.map((frame) => JSON.parse(frame));
  assert.deepEqual([auth.op, ...new Set(watches.map(({ op }) => op))], ["auth", "watch"]);
  assert.deepEqual([...auth.watch, ...watches.flatMap((piece) => piece.docs)], docs);
  only("reject", driver.feed(watch("1", ...docs)));
});

test("one request can not be larger than a frame", () => {
  const driver = new Driver().live();
  const docs = Array.from({ length: 2000 }, (_, number) => `user:u_${number}`);
  const [rejected] = driver.feed(watch("1", ...docs));
  assert.ok(rejected.error instanceof TooLarge);
  assert.deepEqual([...driver.session.replica], [SELF]);
});

test("a document that can not be built now is asked for again", () => {
  const driver = new Driver({ watch: ["self", "user:u_x"], pingIntervalMs: 1e6 }).live();
  driver.server({ op: "error", code: "unavailable", message: "", doc: "user:u_x", retry_after_s: 4 });
  const at = driver.now;
  const [again] = sent(driver.untilDeadline());
  assert.deepEqual([driver.now, again.op, again.docs], [at + 4_000, "watch", ["user:u_x"]]);
  driver.server({ op: "reply", id: again.id, docs: ["user:u_x"] }, snapshot("user:u_x", LESS, 3));
  assert.equal(driver.freshness.state, "live");
});

test("a sync of the application ends with the snapshot", () => {
  const driver = new Driver().live();
  const [request] = sent(driver.feed({ type: "syncDocument", id: "7", doc: "self" }));
  assert.deepEqual(request, { op: "sync", id: "7", doc: SELF });
  assert.deepEqual(driver.server({ op: "reply", id: "7", doc: SELF }), []);
  assert.deepEqual(driver.server(snapshot(SELF, ADA, 12)), [{ type: "resolve", id: "7", value: null }]);
});

test("one sync is under way for a document at most, and sent again when nobody answers", () => {
  const driver = new Driver({ pingIntervalMs: 1e6 }).live();
  const wrong = update(11, { from: "0".repeat(16) });
  const [first, ...others] = sent(driver.server(wrong, wrong, wrong));
  assert.deepEqual(others, []);
  const at = driver.now;
  const [second] = sent(driver.untilDeadline());
  assert.equal(driver.now, at + 10_000);
  assert.notEqual(second.id, first.id);
  answerSync(driver, second, LESS, 11);
  assert.deepEqual(driver.data(), LESS);
});

test("a document does not go back on one connection", () => {
  const driver = new Driver().live();
  driver.server(update(11));
  const [request] = sent(driver.server(snapshot(SELF, ADA, 10)));
  assert.deepEqual(every("change", driver.server(snapshot(SELF, ADA, 10))), [], "an old frame is still an old frame");
  assert.deepEqual(driver.data(), LESS);
  assert.equal(only("change", answerSync(driver, request, ADA, 5)).seq, 5);
  assert.equal(driver.freshness.state, "live");
});

test("requests that nobody answers time out, and fail with the connection", () => {
  const driver = new Driver({ pingIntervalMs: 1e6 }).live();
  driver.feed({ type: "syncDocument", id: "7", doc: "self" });
  assert.ok(only("reject", driver.untilDeadline()).error instanceof RequestTimeout);
  driver.feed({ type: "measurePing", id: "2" });
  driver.feed(watch("3", "user:u_b"));
  driver.feed(unwatch("4", "user:u_c"));
  const effects = driver.lose();
  assert.deepEqual(
    every("reject", effects).map(({ id, error }) => [id, error.code]),
    [
      ["2", "disconnected"],
      ["3", "disconnected"],
    ],
  );
  assert.deepEqual(every("resolve", effects), [{ type: "resolve", id: "4", value: null }]);
});

test("a ping measures the way, in milliseconds", () => {
  const driver = new Driver().live();
  assert.deepEqual(sent(driver.feed({ type: "measurePing", id: "1" })), [{ op: "ping", id: "1" }]);
  driver.now += 125;
  const pong = { op: "pong", id: "1", server_time: "", revs: { [SELF]: REV } };
  assert.deepEqual(driver.server(pong), [{ type: "resolve", id: "1", value: 125 }]);
});

test("waiting for a position asks where the document stands, and survives a reconnect", () => {
  const driver = new Driver({ pingIntervalMs: 1e6 }).live();
  assert.deepEqual(driver.feed(awaitSeq("0", 10)), [{ type: "resolve", id: "0", value: 10 }]);
  assert.deepEqual(driver.feed(awaitSeq("1", 12)), []);
  const [request] = sent(driver.untilDeadline());
  assert.deepEqual(answerSync(driver, request, ADA, 11), []);
  driver.lose();
  driver.connect();
  driver.greet();
  const effects = driver.server({ op: "current", doc: SELF, rev: REV, seq: 12 });
  assert.deepEqual(only("resolve", effects), { type: "resolve", id: "1", value: 12 });
});

test("all who wait for a position ask together, and ever more seldom", () => {
  const driver = new Driver({ pingIntervalMs: 1e6, requestTimeoutMs: 10_000 }).live();
  const began = driver.now;
  for (let number = 0; number < 10; number += 1) {
    driver.feed(awaitSeq(String(number), 99));
    driver.now += 25;
  }
  const asked = [];
  while (driver.session.deadline <= began + 120_000) {
    for (const request of sent(driver.untilDeadline())) {
      asked.push((driver.now - began) / 1000);
      answerSync(driver, request, ADA, 10);
    }
  }
  assert.deepEqual(asked, [0.25, 2.25, 6.25, 14.25, 30.25, 60.25, 90.25]);
  assert.equal(every("resolve", driver.server(snapshot(SELF, ADA, 99))).length, 10);
  driver.now += 5_000;
  driver.feed(awaitSeq("again", 100));
  assert.equal(driver.session.deadline, driver.now + 250);
});

test("those who begin to wait one after the other do not ask all the time", () => {
  const driver = new Driver({ pingIntervalMs: 1e6 }).live();
  const began = driver.now;
  let asked = 0;
  for (let number = 0; number < 300; number += 1) {
    driver.feed(awaitSeq(String(number), 99));
    driver.now += 200;
    for (const request of sent(driver.feed({ type: "tick" }))) {
      asked += 1;
      answerSync(driver, request, ADA, 10);
    }
  }
  assert.ok(driver.now === began + 60_000 && asked > 20 && asked <= 31, String(asked));
});

test("where a document stands is not asked while it is on its way", () => {
  const driver = new Driver({ pingIntervalMs: 1e6 }).live();
  const [request] = sent(driver.feed({ type: "syncDocument", id: "1", doc: "self" }));
  driver.feed(awaitSeq("2", 99));
  driver.now += 5_000;
  assert.deepEqual(sent(driver.feed({ type: "tick" })), []);
  answerSync(driver, request, ADA, 11);
  assert.equal(sent(driver.untilDeadline()).length, 1);
});

test("after a restore nobody can wait for an old position", () => {
  const driver = new Driver().live();
  driver.feed(awaitSeq("1", 12));
  driver.lose();
  driver.connect();
  assert.ok(only("reject", driver.greet({ epoch: "e2" })).error instanceof EpochChanged);
});

test("without the own document there is nothing to wait for", () => {
  const driver = new Driver({ watch: ["revocations"] });
  driver.connect();
  driver.greet({ principal: "instance:i_1" });
  assert.ok(only("reject", driver.feed(awaitSeq("1", 12))).error instanceof NotFound);
});

test("a request to spend is sent until it is answered", () => {
  const driver = new Driver({ pingIntervalMs: 1e9 }).live();
  const message = { op: "consume", id: "1", quota: "voice_minutes", amount: 2, key: "k" };
  assert.deepEqual(sent(driver.feed({ type: "spend", id: "1", message, timeoutMs: 60_000 })), [message]);
  driver.lose();
  driver.connect();
  assert.deepEqual(sent(driver.greet()).at(-1), message);
  const reply = { op: "reply", id: "1", quota: "voice_minutes", used: 14, limit: 500, remaining: 481, seq: 11 };
  const { value } = only("resolve", driver.server(reply));
  assert.deepEqual([value.used, value.limit, value.capRemaining, value.seq], [14, 500, null, 11]);
});

test("what may have been spent is told by its key", () => {
  const driver = new Driver({ pingIntervalMs: 1e9 }).live();
  const message = { op: "consume", id: "1", quota: "voice_minutes", amount: 2, key: "k" };
  driver.feed({ type: "spend", id: "1", message, timeoutMs: 60_000 });
  const { error } = only("reject", driver.feed({ type: "stop" }));
  assert.deepEqual([error.code, error.key], ["closed", "k"]);
});
