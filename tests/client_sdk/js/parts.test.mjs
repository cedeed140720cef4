import assert from "node:assert/strict";
import { test } from "node:test";

import * as errors from "../../../client_sdk/js/errors.js";
import {
  checkedAmount,
  checkedKey,
  checkedMs,
  checkedName,
  checkedTtl,
  madeAt,
  newKey,
} from "../../../client_sdk/js/keys.js";
import { documentNames } from "../../../client_sdk/js/names.js";
import { makeOptions } from "../../../client_sdk/js/options.js";
import { PriorityQueue } from "../../../client_sdk/js/priority_queue.js";
import { balanceOf, isGranted, permissionsOf, quotasOf } from "../../../client_sdk/js/quota.js";
import { decode, encode } from "../../../client_sdk/js/wire.js";

// --- errors ----------------------------------------------------------------------------------------------------------

const { ChannelError, Disconnected, QuotaExceeded, RequestTimeout, Unavailable } = errors;

test("an error has its code, its name and what it was told", () => {
  const cause = new TypeError("why");
  const error = new errors.NotFound("No.", { retryAfterS: 2, doc: "user:a", cause });
  assert.ok(error instanceof ChannelError && error instanceof Error);
  assert.deepEqual([error.name, error.code, error.message], ["NotFound", "not_found", "No."]);
  assert.deepEqual([error.retryAfterS, error.doc, error.key, error.cause], [2, "user:a", null, cause]);
  assert.equal("cause" in new Disconnected("No."), false);
});

test("a code of the future is a plain error with that code", () => {
  const error = errors.requestError("from_the_future", "What?", { retryAfterS: 1 });
  assert.equal(error.constructor, ChannelError);
  assert.deepEqual([error.code, error.retryAfterS], ["from_the_future", 1]);
  assert.equal(errors.endError("odd", "", { final: true }).constructor, ChannelError);
  assert.equal(errors.endError("odd", "", { final: false }).constructor, Disconnected);
});

test("a copy says the same and is another error", () => {
  const error = new QuotaExceeded("No.", { quota: "x", remaining: 3, resetsAt: "t", retryAfterS: 1 });
  const copy = errors.copyOf(error);
  copy.key = "k";
  assert.deepEqual({ ...copy, key: null }, { ...error });
  assert.deepEqual([copy.constructor, copy.message, error.key], [QuotaExceeded, "No.", null]);
  const stopped = errors.copyOf(new errors.MeterStopped("offline", error));
  assert.deepEqual(
    [stopped.constructor, stopped.message, stopped.reason, stopped.cause],
    [errors.MeterStopped, "The meter stopped: offline.", "offline", error],
  );
  assert.equal("cause" in copy, false);
});

test("what passes is worth another try", () => {
  const passing = [new Disconnected(""), new RequestTimeout(""), new Unavailable(""), new errors.RateLimited("")];
  const lasting = [new Disconnected("", { code: "closed" }), new errors.Forbidden(""), new Error(""), null];
  assert.ok(passing.every(errors.passes));
  assert.ok(!lasting.some(errors.passes));
});

// --- what a caller may say -------------------------------------------------------------------------------------------

test("options have defaults, and bad ones are refused", () => {
  const options = makeOptions({ watch: ["org:a"], pingIntervalMs: 5, client: undefined });
  assert.deepEqual([options.watch, options.pingIntervalMs, options.client, options.verify], [["org:a"], 5, null, true]);
  assert.ok(Object.isFrozen(options) && Object.isFrozen(options.watch));
  const bad = [
    { watch: [] },
    { watch: 5 },
    { watch: [7] },
    { watch: ["self@0123456789abcdef"] },
    { watch: ["user:\ud800"] },
    { client: { name: "x" } },
    { client: { name: "", version: "1" } },
    { client: { name: "x".repeat(65), version: "1" } },
    { client: { name: "x", version: "1\n" } },
    { client: { name: "\udfff", version: "1" } },
    { client: 5 },
    { verify: 1 },
    { pongTimeoutMs: 0 },
    { stableMs: NaN },
    { backoffCapMs: Infinity },
    { requestTimeoutMs: "5" },
    { connectTimeoutMs: null },
    { unheardOf: 1 },
    { constructor: 1 },
  ];
  for (const fields of bad) {
    assert.throws(() => makeOptions(fields), TypeError, JSON.stringify(fields));
  }
  assert.deepEqual(makeOptions({ watch: new Set(["self", "org:a"]) }).watch, ["self", "org:a"]);
  assert.deepEqual(makeOptions({ watch: "self" }).watch, ["self"]);
  const client = { name: "\u{1f600}".repeat(64), version: "1" };
  assert.deepEqual(makeOptions({ client: { ...client, more: 1 } }).client, client);
});

test("documents are named by texts, without a revision", () => {
  assert.deepEqual(documentNames("self"), ["self"]);
  assert.deepEqual(documentNames(new Set(["org:a@b", "user:x"])), ["org:a@b", "user:x"]);
  assert.deepEqual(documentNames("\u{1f600}".repeat(256)).length, 1);
  for (const docs of [[], [5], [""], ["x".repeat(257)], ["self@0123456789abcdef"], [null], ["user:\ud800"]]) {
    assert.throws(() => documentNames(docs), /document/);
  }
});

test("what is spent is checked at the call", () => {
  assert.equal(checkedAmount(2 ** 31), 2 ** 31);
  for (const amount of [0, -1, 1.5, 2 ** 31 + 1, NaN, "1", true, null]) {
    assert.throws(() => checkedAmount(amount), TypeError);
  }
  assert.deepEqual([checkedTtl(1), checkedTtl(3600), checkedMs("a wait", 1.5)], [1, 3600, 1.5]);
  for (const ttlS of [0.9, 3601, NaN, "60", null]) {
    assert.throws(() => checkedTtl(ttlS), TypeError);
  }
  for (const durationMs of [0, -1, NaN, Infinity, "1", null]) {
    assert.throws(() => checkedMs("a wait", durationMs), TypeError);
  }
  for (const name of ["", "x".repeat(257), "a\nb", "a\x7f", "\x9f", "\udfff", 5, null]) {
    assert.throws(() => checkedName("a quota", name), TypeError);
  }
  assert.equal(checkedName("a quota", "ü \u{1f600}"), "ü \u{1f600}");
});

test("keys grow with time and are never the same", () => {
  const keys = [1000, 2 ** 41].map((now) => newKey(() => now));
  assert.deepEqual(keys.map(madeAt), [1000, 2 ** 41]);
  assert.ok(keys[0] < keys[1] && keys.every((key) => /^[0-9a-f]{28}$/.test(key)));
  assert.notEqual(checkedKey(null), checkedKey(undefined));
  assert.equal(checkedKey("mine"), "mine");
  assert.throws(() => checkedKey("x".repeat(129)), TypeError);
  assert.equal(madeAt("mine"), null);
});

// --- documents and messages ------------------------------------------------------------------------------------------

test("quotas and permissions are what the document says itself", () => {
  const document = JSON.parse(`{
    "permissions": {"a": true, "b": false, "__proto__": true},
    "quotas": {"x": {"limit": 5, "used": 2, "remaining": 3, "hard": true, "resets_at": "t"}, "__proto__": {"used": 1}}
  }`);
  assert.deepEqual([...permissionsOf(document)], ["a", "__proto__"]);
  assert.deepEqual(
    ["a", "b", "__proto__", "constructor", "c"].map((name) => isGranted(document, name)),
    [true, false, true, false, false],
  );
  const quotas = quotasOf(document);
  assert.deepEqual(Object.keys(quotas), ["x", "__proto__"]);
  const unlimited = { limit: null, remaining: null, resetsAt: null, cap: null, capRemaining: null };
  const rest = { reserved: 0, period: "", level: "ok" };
  assert.deepEqual(quotas.x, { ...unlimited, ...rest, limit: 5, used: 2, remaining: 3, hard: true, resetsAt: "t" });
  assert.deepEqual([{ ...quotasOf({}) }, [...permissionsOf({})], isGranted({}, "a")], [{}, [], false]);
});

test("a balance is what a reply tells of the quota", () => {
  const reply = decode(
    '{"op":"reply","id":"1","quota":"x","used":3,"limit":10,"remaining":7,"seq":12,"cap_remaining":4}',
  );
  const balance = balanceOf(reply);
  assert.deepEqual(
    [balance.quota, balance.used, balance.limit, balance.seq, balance.capRemaining],
    ["x", 3, 10, 12, 4],
  );
  assert.ok(!("docs" in balance) && !("lease" in balance) && !("op" in balance));
});

test("fields without a value are not written", () => {
  assert.equal(encode({ op: "auth", token: "t", id: undefined }), '{"op":"auth","token":"t"}');
});

// --- the queue -------------------------------------------------------------------------------------------------------

test("a queue is a list that is sorted", () => {
  let state = 7;
  const random = (below) => (state = (state * 48271) % 2147483647) % below;
  for (let round = 0; round < 50; round += 1) {
    const queue = new PriorityQueue();
    let model = [];
    for (let step = 0; step < 300; step += 1) {
      const id = "abcdefgh"[random(8)];
      const number = random(6);
      const others = model.filter((entry) => entry.id !== id);
      switch (random(8)) {
        case 0:
          assert.equal(queue.remove(id), others.length < model.length);
          model = others;
          break;
        case 1: {
          const [first] = model;
          const taken = first !== undefined && first.number <= number ? model.shift().id : null;
          assert.equal(queue.take(number), taken);
          break;
        }
        case 2:
          if (random(20) === 0) {
            queue.clear();
            model = [];
          }
          break;
        default:
          queue.put(id, number);
          model = [...others, { id, number }].sort((one, other) => one.number - other.number);
      }
      assert.equal(queue.first(), model[0]?.number ?? Infinity);
      assert.equal(queue.size, model.length);
      assert.deepEqual([...queue].sort(), model.map((entry) => entry.id).sort());
      assert.equal(
        queue.has("a"),
        model.some((entry) => entry.id === "a"),
      );
    }
    assert.deepEqual(
      model.map(() => queue.take()),
      model.map((entry) => entry.id),
    );
    assert.equal(queue.take(), null);
  }
});
