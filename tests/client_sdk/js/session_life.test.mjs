import assert from "node:assert/strict";
import { test } from "node:test";

import { Disconnected, PrincipalChanged, Revoked } from "../../../client_sdk/js/errors.js";
import { ADA, Driver, HELLO, SELF, every, only, revisionOf, sent, snapshot } from "./support/driver.mjs";

const REV = revisionOf(ADA);
const ended = (code, reconnect, more = {}) => ({ op: "ended", code, message: code, reconnect, ...more });
const lost = (code) => ({ type: "lost", code, reason: "" });
const wake = { type: "wake" };
const offline = { type: "offline" };
const ping = (driver) => sent(driver.untilDeadline())[0];
const pong = ({ id }) => ({ op: "pong", id, server_time: "", revs: { [SELF]: REV } });

test("starting twice is starting once", () => {
  const driver = new Driver();
  driver.feed({ type: "start" });
  assert.deepEqual(driver.feed({ type: "start" }), []);
});

test("effects are frozen", () => {
  assert.ok(new Driver().feed({ type: "start" }).every(Object.isFrozen));
  const driver = new Driver().live();
  assert.ok(driver.server(ended("revoked", "never")).every(Object.isFrozen));
});

test("a lost connection comes back at once after a healthy one", () => {
  const driver = new Driver().live();
  driver.now += 60_000;
  const effects = driver.feed({ type: "lost", code: null, reason: "cut" });
  assert.equal(driver.session.condition, "waiting");
  const waitMs = driver.session.deadline - driver.now;
  assert.ok(waitMs > 20 && waitMs <= 250);
  assert.ok(only("trouble", effects).error instanceof Disconnected);
  assert.deepEqual(driver.untilDeadline(), [{ type: "askToken", refused: null }]);
});

test("connections that end at once are made less and less often", () => {
  const driver = new Driver({ chance: 0 });
  const waits = [];
  for (let count = 0; count < 200; count += 1) {
    driver.connect();
    driver.greet();
    driver.server(ended("going_away", "now"));
    waits.push(driver.session.deadline - driver.now);
    driver.chance = 0.999;
  }
  assert.equal(waits[0], 25);
  assert.ok(waits.reduce((sum, wait) => sum + wait) > 190 * 29_000);
});

test("the gateway says how long to wait at least", () => {
  const driver = new Driver().live();
  driver.now += 60_000;
  assert.equal(only("close", driver.server(ended("going_away", "now", { retry_after_s: 7.5 }))).code, 1000);
  const waitMs = driver.session.deadline - driver.now;
  assert.ok(waitMs > 7_500 && waitMs <= 7_750);
});

test("what ends for good ends for good", () => {
  const driver = new Driver().live();
  assert.ok(only("stopped", driver.feed(lost(4500))).error instanceof Revoked);
  assert.equal(driver.session.deadline, Infinity);
  for (const event of [{ type: "tick" }, wake, offline, { type: "stop" }, { type: "start" }]) {
    assert.deepEqual(driver.feed(event), []);
  }
});

test("after a revocation nothing is held", () => {
  const driver = new Driver().live();
  driver.feed({ type: "awaitSeq", id: "1", seq: 99 });
  const effects = driver.server(ended("revoked", "never"));
  assert.equal(only("change", effects).kind, "gone");
  assert.ok(only("reject", effects).error instanceof Revoked);
  assert.equal(only("freshnessChanged", effects).freshness.state, "offline");
  assert.deepEqual(driver.session.replica.documents(), {});
  assert.equal(only("reject", driver.feed({ type: "syncDocument", id: "2", doc: "self" })).error.code, "closed");
});

test("closing keeps what is held and says goodbye", () => {
  const driver = new Driver().live();
  const effects = driver.feed({ type: "stop" });
  assert.deepEqual(only("close", effects), { type: "close", code: 1000, reason: "" });
  assert.equal(only("stopped", effects).error, null);
  assert.deepEqual(driver.data(), ADA);
});

test("a token of somebody else ends the channel", () => {
  const driver = new Driver().live();
  driver.lose();
  driver.connect("t2");
  assert.ok(only("stopped", driver.greet({ principal: "user:u_other" })).error instanceof PrincipalChanged);
  assert.deepEqual(driver.session.replica.documents(), {});
});

// --- time ------------------------------------------------------------------------------------------------------------

test("a gateway that does not answer the handshake is left", () => {
  const driver = new Driver({ connectTimeoutMs: 3_000 });
  driver.feed({ type: "start" });
  driver.feed({ type: "tokenGiven", token: "t1" });
  const began = driver.now;
  only("close", driver.untilDeadline());
  assert.equal(driver.now, began + 3_000);
  assert.equal(driver.session.condition, "waiting");
});

test("a gateway that does not say ready is left", () => {
  const driver = new Driver({ greetingTimeoutMs: 3_000 });
  driver.connect();
  driver.server(HELLO);
  only("close", driver.untilDeadline());
  assert.equal(driver.session.condition, "waiting");
});

test("a dead network is found by a ping", () => {
  const driver = new Driver().live();
  const began = driver.now;
  assert.equal(ping(driver).op, "ping");
  assert.equal(driver.now - began, 25_000);
  assert.equal(only("close", driver.untilDeadline()).code, 1001);
  assert.equal(driver.now - began, 35_000);
  assert.deepEqual(driver.freshness, { state: "offline", ageS: 35, reason: "disconnected" });
});

test("a slow network that still delivers is not dead", () => {
  const driver = new Driver({ pingIntervalMs: 1e6, pongTimeoutMs: 10_000 }).live();
  driver.untilDeadline();
  for (let seq = 11; seq < 16; seq += 1) {
    driver.now += 9_000;
    assert.deepEqual(driver.server(snapshot(SELF, ADA, seq)), []);
  }
  driver.now += 10_000;
  only("close", driver.feed({ type: "tick" }));
});

test("pings are spread", () => {
  const [early, late] = [new Driver({ chance: 0 }).live(), new Driver({ chance: 0.999 }).live()];
  assert.equal(early.session.deadline - early.now, 22_500);
  assert.ok(late.session.deadline - late.now > 27_490);
});

// --- what a page knows -----------------------------------------------------------------------------------------------

test("a page that is seen again finds out at once whether the connection still is one", () => {
  const driver = new Driver({ pongTimeoutMs: 2_000 }).live();
  driver.now += 5_000;
  const [request] = sent(driver.feed(wake));
  assert.equal(request.op, "ping");
  assert.deepEqual(driver.feed(wake), [], "one ping is under way at most");
  assert.equal(driver.session.deadline, driver.now + 2_000);
  driver.server(pong(request));
  assert.equal(driver.session.deadline, driver.now + 25_000);
  driver.feed(wake);
  const began = driver.now;
  only("close", driver.untilDeadline());
  assert.equal(driver.now, began + 2_000);
});

test("when the network is back a wait is cut short", () => {
  const driver = new Driver({ chance: 0.999 });
  for (let count = 0; count < 6; count += 1) {
    driver.connect();
    driver.lose();
  }
  assert.ok(driver.session.deadline - driver.now > 10_000);
  driver.feed(wake);
  const waitMs = driver.session.deadline - driver.now;
  assert.ok(waitMs > 0 && waitMs < 250);
  driver.chance = 0.1;
  driver.feed(wake);
  assert.equal(driver.session.deadline, driver.now + 25);
  driver.connect();
});

test("a provider that failed without a network is asked again when there is one", () => {
  const driver = new Driver();
  driver.feed({ type: "start" });
  driver.feed({ type: "tokenFailed", cause: new TypeError("Failed to fetch") });
  assert.ok(driver.session.deadline - driver.now > 1_000);
  driver.feed(wake);
  assert.equal(driver.session.deadline, driver.now + 125);
});

test("a wait that the gateway wants is not cut short", () => {
  const wanted = [
    ended("going_away", "now", { retry_after_s: 7.5 }),
    ended("overloaded", "later"),
    ended("replaced", "later"),
  ];
  for (const [index, message] of wanted.entries()) {
    const driver = new Driver().live();
    driver.server(message);
    const { deadline } = driver.session;
    driver.feed(wake);
    assert.equal(driver.session.deadline, index === 0 ? driver.now + 7_625 : deadline);
  }
});

test("a wait for another token is not cut short", () => {
  const driver = new Driver();
  driver.connect();
  driver.server(HELLO, ended("auth_failed", "new_credential"));
  assert.deepEqual(driver.untilDeadline(), [{ type: "askToken", refused: "t1" }]);
  driver.feed({ type: "tokenGiven", token: "t1" });
  const { deadline } = driver.session;
  driver.feed(wake);
  assert.equal(driver.session.deadline, deadline);
});

test("waking is nothing where something is under way", () => {
  const driver = new Driver();
  for (const event of [{ type: "start" }, { type: "tokenGiven", token: "t1" }, { type: "opened", subprotocol: "" }]) {
    driver.feed(event);
    const { deadline } = driver.session;
    assert.deepEqual(driver.feed(wake), []);
    assert.deepEqual(driver.feed(offline), []);
    assert.equal(driver.session.deadline, deadline);
  }
});

test("without a network nothing is live, and the connection is kept until a ping fails", () => {
  const driver = new Driver().live();
  driver.now += 4_000;
  const effects = driver.feed(offline);
  assert.deepEqual(only("freshnessChanged", effects).freshness, { state: "offline", ageS: 4, reason: "network" });
  const [request] = sent(effects);
  assert.equal(driver.session.condition, "live");
  driver.now += 1_000;
  const heard = driver.server(pong(request));
  assert.deepEqual(only("freshnessChanged", heard).freshness, { state: "live", ageS: 0, reason: "" });
  driver.feed(offline);
  only("close", driver.untilDeadline());
  assert.equal(driver.session.condition, "waiting");
});

test("offline does not hurry a wait", () => {
  const driver = new Driver({ chance: 0.999 });
  driver.connect();
  driver.lose();
  const { deadline } = driver.session;
  driver.feed(offline);
  assert.equal(driver.session.deadline, deadline);
  driver.connect();
  driver.greet();
  driver.server(snapshot(SELF, ADA, 10));
  assert.equal(driver.freshness.state, "live");
});

// --- freshness -------------------------------------------------------------------------------------------------------

test("a gateway without its database makes everything stale", () => {
  const driver = new Driver().live();
  driver.now += 60_000;
  const [changed] = driver.server({ op: "status", store: "stale", since: "2026-11-21T20:00:00.000Z", age_s: 4 });
  assert.deepEqual(changed, { type: "freshnessChanged", freshness: { state: "stale", ageS: 4, reason: "store" } });
  driver.now += 3_000;
  assert.equal(driver.freshness.ageS, 7);
  driver.lose();
  driver.now += 2_000;
  assert.deepEqual(driver.freshness, { state: "offline", ageS: 9, reason: "disconnected" });
});

test("before anything came no age is known", () => {
  assert.deepEqual(new Driver().freshness, { state: "offline", ageS: null, reason: "connecting" });
});

// --- nonsense --------------------------------------------------------------------------------------------------------

test("what is no message ends the connection but not the channel", () => {
  for (const frame of ["{", '{"op":"snapshot"}', new ArrayBuffer(3), new Blob(["{}"]), null]) {
    const driver = new Driver().live();
    assert.equal(only("close", driver.frame(frame)).code, 1002);
    assert.equal(driver.session.condition, "waiting");
    assert.equal(driver.session.malformed, 1);
    assert.deepEqual(driver.data(), ADA);
  }
});

test("frames after the end are not looked at", () => {
  const driver = new Driver().live();
  driver.server(ended("going_away", "now"));
  assert.deepEqual(driver.server(snapshot(SELF, { identity: {} }, 99)), []);
  assert.deepEqual(driver.feed(lost(1001)), []);
});

test("documents before ready are not looked at", () => {
  const driver = new Driver();
  driver.connect();
  assert.deepEqual(
    sent(driver.server(HELLO, snapshot(SELF, ADA, 1))).map(({ op }) => op),
    ["auth"],
  );
  assert.deepEqual(driver.session.replica.documents(), {});
});

test("a subprotocol that was not offered ends the connection, none at all is JSON", () => {
  for (const [subprotocol, condition] of [
    ["soap", "waiting"],
    ["gateway.v1+msgpack", "waiting"],
    ["", "greeting"],
    [null, "greeting"],
  ]) {
    const driver = new Driver();
    driver.feed({ type: "start" });
    driver.feed({ type: "tokenGiven", token: "t1" });
    const effects = driver.feed({ type: "opened", subprotocol });
    assert.deepEqual(
      every("close", effects).map(({ code }) => code),
      condition === "waiting" ? [1002] : [],
    );
    assert.equal(driver.session.condition, condition);
  }
});
