import assert from "node:assert/strict";
import { test } from "node:test";

import { ADA, Driver, HELLO, LESS, SELF, every, only, revisionOf, sent, snapshot, update } from "./support/driver.mjs";

const REV = revisionOf(ADA);
const HOURS_8 = 8 * 3_600_000;
const tick = { type: "tick" };
const wake = { type: "wake" };
const online = { type: "online" };
const offline = { type: "offline" };
const ended = (code, reconnect, more = {}) => ({ op: "ended", code, message: code, reconnect, ...more });
const pong = ({ id }, revs = { [SELF]: REV }) => ({ op: "pong", id, server_time: "", revs });
const silence = (ageS) => ({ state: "stale", ageS, reason: "silence" });

/** The one ping among the effects. */
function ping(effects) {
  const pings = sent(effects).filter(({ op }) => op === "ping");
  assert.equal(pings.length, 1);
  return pings[0];
}

// --- how true it is --------------------------------------------------------------------------------------------------

test("after a long sleep nothing is live before the probe is answered", () => {
  const driver = new Driver().live();
  driver.now += 4_000;
  const effects = driver.feed({ type: "wake", gapMs: HOURS_8 });
  assert.deepEqual(only("freshnessChanged", effects).freshness, silence(HOURS_8 / 1000 + 4));
  const probe = ping(effects);
  driver.now += 100;
  assert.deepEqual(only("change", driver.server(update(11))).data, LESS, "what was under way is read");
  assert.deepEqual(driver.freshness, silence(HOURS_8 / 1000 + 4.1), "and proves nothing");
  driver.server(pong({ id: "s0" }, {}));
  assert.equal(driver.freshness.state, "stale", "nor does the pong of another ping");
  const { freshness } = only("freshnessChanged", driver.server(pong(probe, { [SELF]: revisionOf(LESS) })));
  assert.deepEqual(freshness, { state: "live", ageS: 0, reason: "" });
});

test("a clock that was only set costs nothing but a ping", () => {
  const driver = new Driver().live();
  driver.feed({ type: "spend", id: "1", message: { op: "consume", id: "1", quota: "x", amount: 1 }, timeoutMs: 5_000 });
  const effects = driver.feed({ type: "wake", gapMs: HOURS_8 });
  assert.deepEqual([every("reject", effects), driver.session.condition], [[], "live"]);
  assert.deepEqual(
    sent(effects).map(({ op }) => op),
    ["ping"],
  );
  driver.server(pong(ping(effects)));
  assert.equal(driver.freshness.state, "live");
});

for (const event of [wake, online]) {
  test(`${event.type} after more than a heartbeat of silence is a doubt`, () => {
    const driver = new Driver({ pingIntervalMs: 1e6 }).live();
    driver.now += 20_000;
    driver.server(pong(ping(driver.feed(event))));
    driver.now += 26_000;
    const effects = driver.feed(event);
    assert.deepEqual(only("freshnessChanged", effects).freshness, silence(26));
    driver.server(pong(ping(effects)));
    assert.equal(driver.freshness.state, "live");
  });
}

test("nothing is live of which nothing was heard for two heartbeats and the time of a pong", () => {
  const driver = new Driver().live();
  driver.now += 60_000;
  assert.equal(driver.freshness.state, "live");
  driver.now += 1;
  assert.deepEqual(driver.freshness, silence(60.001), "also when nobody has called");
  const effects = driver.feed(tick);
  assert.deepEqual(only("freshnessChanged", effects).freshness, silence(60.001));
  assert.equal(driver.session.deadline, driver.now + 2_500);
  driver.server(pong(ping(effects)));
  assert.equal(driver.freshness.state, "live");
});

test("a frame that comes after a long silence may be old", () => {
  const driver = new Driver().live();
  driver.now += 90_000;
  const effects = driver.server(update(11));
  assert.deepEqual(only("freshnessChanged", effects).freshness, silence(90));
  driver.server(pong(ping(effects), { [SELF]: revisionOf(LESS) }));
  assert.equal(driver.freshness.state, "live");
});

test("the probe of a wake has a short deadline, a ping of its own has not", () => {
  const driver = new Driver().live();
  driver.feed(wake);
  assert.equal(driver.session.deadline, driver.now + 2_500);
  const began = driver.now;
  assert.equal(only("close", driver.untilDeadline()).code, 1001);
  assert.equal(driver.now - began, 2_500);
  const patient = new Driver().live();
  ping(patient.untilDeadline());
  assert.equal(patient.session.deadline, patient.now + 10_000);
  ping(patient.feed(wake));
  assert.equal(patient.session.deadline, patient.now + 2_500, "also while an ordinary one is under way");
});

test("the age counts what was slept, also without a connection", () => {
  const driver = new Driver({ chance: 0.999 }).live();
  driver.lose();
  driver.now += 10;
  driver.feed({ type: "wake", gapMs: 60_000 });
  assert.equal(driver.freshness.ageS, 60.01);
  driver.feed({ type: "wake", gapMs: -60_000 });
  assert.equal(driver.freshness.ageS, 60.01, "and nothing that a clock was set back");
});

test("every sleep has a probe of its own", () => {
  const driver = new Driver().live();
  const early = ping(driver.feed({ type: "wake", gapMs: 5_000 }));
  const late = ping(driver.feed({ type: "wake", gapMs: 5_000 }));
  driver.server(pong(early));
  assert.equal(driver.freshness.state, "stale");
  driver.server(pong(late));
  assert.equal(driver.freshness.state, "live");
});

// --- without a network -----------------------------------------------------------------------------------------------

test("offline is not undone by what was under way, nor by an answer to an older ping", () => {
  const driver = new Driver().live();
  const older = ping(driver.untilDeadline());
  const probe = ping(driver.feed(offline));
  assert.deepEqual([probe.id === older.id, driver.session.deadline], [false, driver.now + 2_500]);
  driver.server(update(11), pong(older, { [SELF]: revisionOf(LESS) }));
  assert.deepEqual([driver.freshness.state, driver.freshness.reason], ["offline", "network"]);
  driver.server(pong(probe, { [SELF]: revisionOf(LESS) }));
  assert.equal(driver.freshness.state, "live");
});

test("offline is undone by another connection, but not by one that was begun before", () => {
  const driver = new Driver().live();
  driver.feed(offline);
  driver.untilDeadline();
  driver.connect();
  driver.greet();
  driver.server(snapshot(SELF, ADA, 10));
  assert.equal(driver.freshness.state, "live");
  driver.lose();
  driver.connect();
  driver.feed(offline);
  const probe = ping(driver.greet());
  driver.server(snapshot(SELF, ADA, 10));
  assert.equal(driver.freshness.reason, "network");
  driver.server(pong(probe));
  assert.equal(driver.freshness.state, "live");
});

// --- haste -----------------------------------------------------------------------------------------------------------

test("a whole office that comes online comes back over two seconds", () => {
  const waits = [0, 0.5, 0.999].map((chance) => {
    const driver = new Driver({ chance: 0.999 });
    for (let count = 0; count < 8; count += 1) {
      driver.connect();
      driver.lose();
    }
    driver.chance = chance;
    driver.feed(online);
    return driver.session.deadline - driver.now;
  });
  assert.deepEqual(waits, [0, 1_000, 1_998]);
});

test("those whose connection turns out to be none when they are online are spread too", () => {
  const driver = new Driver().live();
  driver.now += 10_000;
  driver.feed(online);
  driver.untilDeadline();
  assert.equal(driver.session.deadline - driver.now, 1_000);
});

test("those who wake together after their wait was over do not ask together", () => {
  for (const [event, waitMs] of [
    [wake, 125],
    [online, 1_000],
  ]) {
    const driver = new Driver().live();
    driver.lose();
    driver.now += 3_600_000;
    assert.deepEqual(driver.feed(event), []);
    assert.equal(driver.session.deadline - driver.now, waitMs);
    only("askToken", driver.untilDeadline());
  }
});

test("those who hurry to the end of a wait that the gateway wished do not come together", () => {
  const deadlines = [0.1, 0.9].map((chance) => {
    const driver = new Driver({ chance: 0.999 }).live();
    driver.server(ended("going_away", "now", { retry_after_s: 7.5 }));
    driver.chance = chance;
    driver.feed(wake);
    return driver.session.deadline - driver.now;
  });
  assert.deepEqual(deadlines, [7_525, 7_725]);
});

const attempts = {
  asking: (driver) => driver.feed({ type: "start" }),
  connecting: (driver) => [{ type: "start" }, { type: "tokenGiven", token: "t1" }].map((event) => driver.feed(event)),
  greeting: (driver) => driver.connect(),
};
for (const [moment, begin] of Object.entries(attempts)) {
  for (const event of [wake, online]) {
    test(`${event.type} while ${moment} is remembered for the next wait`, () => {
      const driver = new Driver({ chance: 0.5 });
      for (let count = 0; count < 8; count += 1) {
        driver.connect();
        driver.lose();
      }
      driver.chance = 0.4;
      driver.untilDeadline();
      if (moment !== "asking") {
        driver.feed({ type: "tokenGiven", token: "t1" });
      }
      if (moment === "greeting") {
        driver.feed({ type: "opened", subprotocol: "" });
      }
      assert.equal(driver.session.condition, moment);
      driver.feed(event);
      driver.feed(moment === "asking" ? { type: "tokenFailed", cause: new Error() } : { type: "lost", code: null });
      assert.equal(driver.session.deadline - driver.now, event === wake ? 100 : 800);
      driver.connect();
      driver.lose();
      assert.ok(driver.session.deadline - driver.now > 10_000, "and only for that one");
    });
  }
  test(`an attempt that was ${moment} without a network is not waited for long`, () => {
    const hurried = moment === "asking" ? 30_000 : 2_500;
    for (const [event, waitMs] of [
      [wake, moment === "asking" ? 30_000 : 10_000],
      [online, hurried],
      [{ type: "wake", gapMs: 5_000 }, hurried],
    ]) {
      const driver = new Driver();
      begin(driver);
      driver.feed(event);
      assert.equal(driver.session.deadline - driver.now, waitMs);
    }
  });
}

test("a session that came to be is not in a haste any more", () => {
  const driver = new Driver({ chance: 0.5 });
  driver.connect();
  driver.feed(online);
  driver.greet();
  driver.lose();
  assert.ok(driver.session.deadline - driver.now < 500);
  const answered = new Driver({ chance: 0.5 }).live();
  answered.server(pong(ping(answered.feed(online))));
  answered.now += 10_000;
  answered.lose();
  assert.ok(answered.session.deadline - answered.now < 500);
});

// --- what was lost ---------------------------------------------------------------------------------------------------

test("a document that a pong does not name is asked for again", () => {
  const driver = new Driver({ watch: ["self", "user:u_b"] }).live();
  driver.server(snapshot("user:u_b", LESS, 9));
  const effects = driver.server(pong(ping(driver.untilDeadline())));
  const [request] = sent(effects);
  assert.deepEqual([request.op, request.docs], ["watch", [`user:u_b@${revisionOf(LESS)}`]]);
  assert.equal(only("freshnessChanged", effects).freshness.reason, "document");
  assert.deepEqual(sent(driver.server(pong({ id: "another" }))), [], "once at a time");
  const gone = driver.server({ op: "error", id: request.id, code: "not_found", message: "", doc: "user:u_b" });
  assert.equal(only("change", gone).kind, "gone");
  assert.equal(driver.freshness.state, "live");
});

test("a document that is watched while the ping is under way is not asked for twice", () => {
  const driver = new Driver().live();
  const request = ping(driver.untilDeadline());
  driver.feed({ type: "watchDocuments", id: "1", docs: ["user:u_b", "self"] });
  assert.deepEqual(sent(driver.server(pong(request, {}))), []);
  assert.equal(driver.freshness.reason, "document");
});

test("a copy that is wrong twice is held, and not live before one is right", () => {
  const driver = new Driver().live();
  const wrong = { ...snapshot(SELF, LESS, 11), rev: "0".repeat(16) };
  const [request] = sent(driver.server(wrong));
  driver.server({ op: "reply", id: request.id, doc: SELF }, wrong);
  assert.deepEqual(driver.data(), LESS);
  assert.deepEqual([driver.freshness.state, driver.freshness.reason], ["stale", "unverified"]);
  assert.equal(driver.session.complete(), true);
  driver.lose();
  driver.connect();
  driver.greet();
  driver.server({ op: "current", doc: SELF, rev: "0".repeat(16), seq: 12 });
  assert.equal(driver.freshness.reason, "unverified", "the gateway only says it again");
  driver.server(snapshot(SELF, ADA, 13));
  assert.equal(driver.freshness.state, "live");
});

// --- the end ---------------------------------------------------------------------------------------------------------

test("the last that is told is the end, and before it how true everything is", () => {
  for (const end of [(driver) => driver.server(ended("revoked", "never")), (driver) => driver.feed({ type: "stop" })]) {
    const effects = end(new Driver().live());
    assert.deepEqual(
      effects.slice(-2).map(({ type }) => type),
      ["freshnessChanged", "stopped"],
    );
  }
});

test("requests after the end have its error as their cause", () => {
  const driver = new Driver().live();
  const { error } = only("stopped", driver.server(ended("revoked", "never")));
  const rejected = only("reject", driver.feed({ type: "measurePing", id: "1" }));
  assert.deepEqual([rejected.error.code, rejected.error.cause], ["closed", error]);
  const closed = new Driver().live();
  closed.feed({ type: "stop" });
  assert.equal("cause" in only("reject", closed.feed({ type: "measurePing", id: "1" })).error, false);
});

test("a gateway that speaks another version is left", () => {
  const driver = new Driver();
  driver.connect();
  const effects = driver.server({ ...HELLO, protocol: 2 });
  assert.equal(only("close", effects).code, 1002);
  assert.equal(only("trouble", effects).error.code, "malformed_message");
  assert.deepEqual([sent(effects), driver.session.condition], [[], "waiting"]);
});
