import assert from "node:assert/strict";
import { test } from "node:test";

import { AuthFailed, Disconnected, TokenUnavailable, Unavailable } from "../../../client_sdk/js/errors.js";
import { ADA, Driver, HELLO, SELF, every, only, revisionOf, sent } from "./support/driver.mjs";

const REV = revisionOf(ADA);
const EXPIRING = { op: "expiring", expires_at: "2026-11-21T20:15:00.000Z" };
const ASKED = { type: "askToken", refused: null };
const given = (token) => ({ type: "tokenGiven", token });
const refused = { op: "ended", code: "auth_failed", message: "No.", reconnect: "new_credential" };

test("the token travels in the first message", () => {
  const driver = new Driver({ client: { name: "voice", version: "1.0" } }).live();
  driver.feed({ type: "lost", code: 4001, reason: "" });
  driver.connect("t2");
  assert.deepEqual(sent(driver.server(HELLO)), [
    {
      op: "auth",
      token: "t2",
      watch: [`self@${REV}`],
      client: { name: "voice", version: "1.0" },
      last_end: "timeout",
    },
  ]);
});

test("what has no value is not sent", () => {
  const driver = new Driver();
  driver.connect();
  assert.deepEqual(sent(driver.server(HELLO)), [{ op: "auth", token: "t1", watch: ["self"] }]);
});

test("a refused token is asked for again and the same one is held back", () => {
  const driver = new Driver({ chance: 0.999 });
  driver.connect();
  const effects = driver.server(HELLO, refused);
  assert.ok(only("trouble", effects).error instanceof AuthFailed);
  assert.deepEqual(driver.untilDeadline(), [{ type: "askToken", refused: "t1" }]);
  assert.deepEqual(driver.feed(given("t1")), []);
  assert.ok(driver.session.deadline - driver.now > 3_900);
  assert.deepEqual(driver.untilDeadline(), [ASKED]);
  assert.deepEqual(driver.feed(given("t1")), [{ type: "connect" }]);
});

test("a provider with nothing new is not a hammer", () => {
  const driver = new Driver();
  driver.feed({ type: "start" });
  const began = driver.now;
  let connects = 0;
  while (driver.now < began + 3_600_000) {
    if (every("connect", driver.feed(given("t1"))).length > 0) {
      connects += 1;
      driver.feed({ type: "lost", code: 4102, reason: "" });
    }
    driver.untilDeadline();
  }
  assert.ok(connects < 3600 / 20);
});

test("a provider that fails is asked again later", () => {
  const driver = new Driver({ chance: 0.999 });
  driver.feed({ type: "start" });
  const cause = new TypeError("Failed to fetch");
  const { error } = only("trouble", driver.feed({ type: "tokenFailed", cause }));
  assert.ok(error instanceof TokenUnavailable);
  assert.equal(error.cause, cause);
  assert.match(error.message, /Failed to fetch/);
  assert.ok(driver.session.deadline - driver.now > 3_900);
  assert.deepEqual(driver.untilDeadline(), [ASKED]);
});

for (const [cause, leastMs, mostMs] of [
  [new Disconnected("The gateway does not answer."), 0, [500, 1_000, 2_000]],
  [new Unavailable("Later.", { retryAfterS: 3 }), 3_000, [3_500, 4_000, 5_000]],
  [new Unavailable("Now it can not."), 0, [500, 1_000, 2_000]],
]) {
  test(`a provider that could reach nobody is asked again soon: ${cause.name}, ${leastMs} ms`, () => {
    const driver = new Driver({ chance: 0.999 });
    driver.feed({ type: "start" });
    for (const most of mostMs) {
      const { error } = only("trouble", driver.feed({ type: "tokenFailed", cause }));
      assert.ok(error instanceof TokenUnavailable);
      assert.equal(error.cause, cause);
      const waitMs = driver.session.deadline - driver.now;
      assert.ok(leastMs < waitMs && waitMs <= most, `${waitMs}`);
      assert.deepEqual(driver.untilDeadline(), [ASKED]);
    }
  });
}

test("a provider that never answers is asked again", () => {
  const driver = new Driver();
  driver.feed({ type: "start" });
  const began = driver.now;
  assert.ok(only("trouble", driver.untilDeadline()).error instanceof TokenUnavailable);
  assert.equal(driver.now, began + 30_000);
  assert.deepEqual(driver.untilDeadline(), [ASKED]);
});

test("a credential that ends is renewed on the live session", () => {
  const driver = new Driver().live();
  assert.deepEqual(driver.server(EXPIRING), [ASKED]);
  const [auth] = sent(driver.feed(given("t2")));
  assert.deepEqual(Object.keys(auth).sort(), ["id", "op", "token"]);
  const ready = { op: "ready", session: "s1", principal: SELF, id: auth.id, expires_at: "2026-11-21T20:30:00.000Z" };
  assert.deepEqual(driver.server(ready), []);
  assert.equal(driver.session.expiresAt, "2026-11-21T20:30:00.000Z");
  assert.equal(driver.freshness.state, "live");
});

test("a renewal that fails is tried again while the old token holds", () => {
  const driver = new Driver().live();
  driver.server(EXPIRING);
  driver.feed({ type: "tokenFailed", cause: new Error() });
  assert.deepEqual(driver.untilDeadline(), [ASKED]);
  assert.deepEqual(driver.feed(given("t1")), [], "the one in use: nothing is gained by sending it");
  assert.deepEqual(driver.untilDeadline(), [ASKED]);
  const [auth] = sent(driver.feed(given("bad")));
  const no = { op: "error", id: auth.id, code: "auth_failed", message: "No." };
  assert.ok(only("trouble", driver.server(no)).error instanceof AuthFailed);
  assert.deepEqual(driver.untilDeadline(), [ASKED]);
  assert.equal(sent(driver.feed(given("t2"))).length, 1);
  driver.now += 5_000; // no answer
  assert.deepEqual(driver.feed({ type: "tick" }), [ASKED]);
  assert.equal(driver.session.condition, "live");
});

test("a provider that does not answer a renewal is asked again", () => {
  const driver = new Driver({ pingIntervalMs: 1e9, tokenTimeoutMs: 3_000 }).live();
  driver.server(EXPIRING);
  const began = driver.now;
  assert.ok(only("trouble", driver.untilDeadline()).error instanceof TokenUnavailable);
  assert.equal(driver.now, began + 3_000);
  assert.deepEqual(driver.untilDeadline(), [ASKED]);
  assert.equal(driver.now, began + 8_000);
  assert.equal(sent(driver.feed(given("t2"))).length, 1);
});

test("tokens that hardly live do not make a hot loop", () => {
  const driver = new Driver({ pingIntervalMs: 1e9 }).live();
  const asks = (effects) => every("askToken", effects).length;
  const began = driver.now;
  let asked = asks(driver.server(EXPIRING));
  while (driver.now < began + 60_000) {
    for (const { id } of sent(driver.feed(given(`t${asked + 1}`)))) {
      driver.server({ op: "ready", session: "s1", principal: SELF, id });
    }
    asked += asks(driver.server(EXPIRING));
    driver.now += 100;
    asked += asks(driver.feed({ type: "tick" }));
  }
  assert.ok(asked > 5 && asked <= 14, String(asked));
});

test("the provider is asked before every connection", () => {
  const driver = new Driver().live();
  driver.server(EXPIRING);
  driver.lose();
  assert.deepEqual(driver.feed(given("late")), []);
  assert.deepEqual(driver.untilDeadline(), [ASKED]);
});
