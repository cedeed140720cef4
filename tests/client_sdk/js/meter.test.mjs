import assert from "node:assert/strict";
import { test } from "node:test";

import {
  Disconnected,
  Meter,
  MeterStopped,
  NotFound,
  QuotaExceeded,
  Revoked,
} from "../../../client_sdk/js/gateway.js";
import { unitOf } from "../../../client_sdk/js/meter.js";
import { QUICK, opened as openedWith, settle } from "./support/world.mjs";

const VOICE = "voice_minutes";

const opened = (options = {}) => openedWith({ ...QUICK, ...options });

/** A call that goes on until somebody hangs up. */
function call(channel, options = {}) {
  const meter = new Meter(channel, VOICE, options);
  const parts = { meter, talking: false, signal: null, hangUp: null, ended: "not yet" };
  parts.run = meter.run(async (signal) => {
    Object.assign(parts, { talking: true, signal });
    await new Promise((resolve) => (parts.hangUp = resolve));
    return "hung up";
  });
  parts.run.then(
    (result) => (parts.ended = result),
    (error) => (parts.ended = error),
  );
  return parts;
}

async function begun(channel, options = {}) {
  const parts = call(channel, options);
  await settle();
  assert.ok(parts.talking);
  return parts;
}

/** What stopped it; the signal says the same. */
function stopped({ meter, signal, ended }, reason) {
  assert.ok(ended instanceof MeterStopped, String(ended));
  assert.equal(ended.reason, reason);
  assert.deepEqual([meter.stopped, signal.aborted, signal.reason], [ended, true, ended]);
  return ended.cause;
}

test("a unit is taken at the start of each minute", async () => {
  const { world, channel, bank } = await opened();
  const talk = await begun(channel, { permission: "can_use_voice" });
  assert.deepEqual([talk.meter.units, bank.used(VOICE)], [1, 1]);
  await world.advance(59_999);
  assert.equal(bank.used(VOICE), 1);
  await world.advance(1);
  assert.equal(bank.used(VOICE), 2);
  await world.advance(120_000);
  assert.deepEqual([talk.meter.units, talk.meter.balance.used], [4, 4]);
  talk.hangUp();
  assert.equal(await talk.run, "hung up");
  await world.advance(300_000);
  assert.deepEqual([bank.used(VOICE), talk.meter.stopped, talk.signal.aborted], [4, null, false]);
  assert.deepEqual(
    bank.sent("consume").map(({ key }) => key),
    [0, 1, 2, 3].map((unit) => `${talk.meter.key}.${unit}`),
  );
  await channel.close();
});

test("units may be of any length and size", async () => {
  const { world, channel, bank } = await opened();
  const talk = await begun(channel, { unitMs: 6000, amount: 2, org: "o_acme" });
  await world.advance(12_500);
  talk.hangUp();
  await talk.run;
  assert.deepEqual(
    bank.received.map(({ amount, org }) => [amount, org]),
    Array(3).fill([2, "o_acme"]),
  );
  await channel.close();
});

test("it ends when the units do, and is warned before", async () => {
  const { world, channel, bank } = await opened();
  bank.limits[VOICE] = 5;
  const warnings = [];
  const talk = await begun(channel, { onLow: ({ level, remaining }) => warnings.push([level, remaining]) });
  await world.advance(250_000);
  assert.deepEqual(
    [warnings, talk.ended],
    [
      [
        ["low", 1],
        ["exhausted", 0],
      ],
      "not yet",
    ],
  );
  await world.advance(60_000);
  assert.ok(stopped(talk, "exhausted") instanceof QuotaExceeded);
  assert.deepEqual([talk.meter.units, bank.used(VOICE)], [5, 5]);
  await channel.close();
});

test("a warning that throws is reported, and the call goes on", async () => {
  const { world, channel, bank } = await opened();
  bank.limits[VOICE] = 1;
  const onLow = () => {
    throw new Error("in the application");
  };
  const talk = await begun(channel, { onLow });
  assert.deepEqual([talk.ended, world.reported[0].message], ["not yet", "in the application"]);
  talk.hangUp();
  await talk.run;
  await channel.close();
});

test("it does not begin without a unit, nor without the permission", async () => {
  const { channel, bank } = await opened();
  const never = () => assert.fail("it began");
  bank.limits[VOICE] = 0;
  await assert.rejects(new Meter(channel, VOICE).run(never), { reason: "exhausted" });
  await assert.rejects(new Meter(channel, "letters").run(never), (error) => {
    return error.reason === "forbidden" && error.cause instanceof NotFound;
  });
  await assert.rejects(new Meter(channel, VOICE, { permission: "can_fly" }).run(never), { reason: "forbidden" });
  await channel.close();
  await assert.rejects(new Meter(channel, VOICE).run(never), { reason: "stopped" });
});

test("it ends at once when the permission is lost", async () => {
  const { channel, gateway } = await opened();
  const talk = await begun(channel, { permission: "can_use_voice" });
  gateway.rename("King");
  await settle();
  assert.equal(talk.ended, "not yet");
  gateway.change((data) => delete data.permissions.can_use_voice, ["permissions"]);
  await settle();
  assert.equal(stopped(talk, "forbidden"), undefined);
  await channel.close();
});

test("it ends with the channel, whoever ended that", async () => {
  const { world, channel } = await opened();
  const talk = await begun(channel, { permission: "can_use_voice" });
  world.socket.deliver({ op: "ended", code: "revoked", message: "Revoked.", reconnect: "never" });
  await settle();
  assert.ok(stopped(talk, "stopped") instanceof Revoked);
  const other = await opened();
  const another = await begun(other.channel);
  await other.channel.close();
  await settle();
  assert.equal(stopped(another, "stopped"), undefined);
  assert.deepEqual(other.world.remains, { timers: 0, page: 0, sockets: 0 });
});

test("without a connection it goes on for the grace, and no longer", async () => {
  const { world, channel, gateway, bank } = await opened();
  const talk = await begun(channel, { graceMs: 20_000 });
  gateway.accepts = false;
  world.socket.end();
  await world.advance(19_000);
  gateway.accepts = true;
  await world.advance(31_000);
  assert.deepEqual([talk.ended, channel.freshness.state], ["not yet", "live"]);
  await world.advance(20_000);
  assert.equal(bank.used(VOICE), 2);
  gateway.accepts = false;
  world.socket.end();
  await world.advance(19_999);
  assert.equal(talk.ended, "not yet");
  await world.advance(1);
  assert.ok(stopped(talk, "offline") instanceof Disconnected);
  await channel.close();
});

for (const [what, pass] of [
  ["eight hours of sleep, by a clock that stands still meanwhile", (world) => world.setWall(28_800_000)],
  ["eight hours of sleep, by a clock that goes on", (world) => world.sleep(28_800_000)],
  ["a clock that is set forward by an hour", (world) => world.setWall(3_600_000)],
]) {
  test(`${what}: nothing is charged, and the call is over`, async () => {
    const { world, channel, bank } = await opened();
    const talk = await begun(channel);
    await world.advance(61_000);
    assert.equal(bank.used(VOICE), 2);
    pass(world);
    await world.advance(600_000);
    assert.equal(stopped(talk, "offline"), undefined);
    assert.deepEqual([bank.used(VOICE), talk.meter.units], [2, 2]);
    await channel.close();
    assert.deepEqual(world.remains, { timers: 0, page: 0, sockets: 0 });
  });
}

test("a clock that is set back by an hour is nothing to a call", async () => {
  const { world, channel, bank } = await opened();
  const talk = await begun(channel);
  world.setWall(-3_600_000);
  await world.advance(180_000);
  assert.deepEqual([talk.ended, bank.used(VOICE)], ["not yet", 4]);
  await channel.close();
});

test("a short sleep is neither paid for nor the end", async () => {
  const { world, channel, bank } = await opened();
  const talk = await begun(channel);
  world.setWall(80_000);
  await world.advance(59_000);
  assert.deepEqual([talk.ended, bank.used(VOICE)], ["not yet", 1]);
  await world.advance(1_000);
  assert.deepEqual([talk.ended, bank.used(VOICE)], ["not yet", 2]);
  await channel.close();
});

test("in a page whose timers ring once a minute each unit is taken once, and the call goes on", async () => {
  const { world, channel, bank } = await opened();
  await world.advance(17_000);
  const talk = await begun(channel);
  world.throttleMs = 60_000;
  for (let minute = 1; minute <= 30; minute += 1) {
    await world.advance(60_000);
    assert.equal(talk.ended, "not yet");
    assert.ok([minute, minute + 1].includes(bank.used(VOICE)), `${bank.used(VOICE)} in minute ${minute}`);
  }
  const keys = bank.sent("consume").map(({ key }) => key);
  assert.equal(new Set(keys).size, keys.length);
  await channel.close();
});

test("short units that were due while timers slept are taken one by one, and none for longer than the grace", async () => {
  const { world, channel, bank } = await opened();
  const talk = await begun(channel, { unitMs: 10_000, graceMs: 60_000 });
  world.sleep(45_000);
  await world.advance(0);
  assert.deepEqual([talk.ended, bank.used(VOICE)], ["not yet", 5]);
  world.sleep(75_000);
  await world.advance(0);
  assert.equal(stopped(talk, "offline"), undefined);
  assert.equal(bank.used(VOICE), 5);
  await channel.close();
});

test("what is asked for late is waited for no longer than the grace after it was due", async () => {
  const { world, channel, gateway, bank } = await opened();
  const talk = await begun(channel);
  gateway.silent = true;
  world.sleep(110_000);
  await world.advance(39_000);
  assert.equal(talk.ended, "not yet");
  await world.advance(1_000);
  stopped(talk, "offline");
  assert.equal(bank.used(VOICE), 1);
  await channel.close();
});

test("what stops it before its function began keeps that from beginning", async () => {
  const { channel, gateway } = await opened();
  const meter = new Meter(channel, VOICE, { permission: "can_use_voice" });
  let began = false;
  const running = meter.run(() => (began = true));
  gateway.change((data) => delete data.permissions.can_use_voice, ["permissions"]);
  await assert.rejects(running, { reason: "forbidden" });
  assert.deepEqual([meter.stopped.reason, meter.units, began], ["forbidden", 1, false]);
  await channel.close();
});

test("a unit whose answer is lost is asked for with the same key, and paid once", async () => {
  const { world, channel, gateway, bank } = await opened();
  const talk = await begun(channel);
  await world.advance(59_000);
  gateway.silent = true;
  await world.advance(1_001);
  bank.answer(world.socket.sent.at(-1));
  gateway.silent = false;
  await world.advance(15_000);
  assert.deepEqual([talk.ended, talk.meter.units, bank.used(VOICE)], ["not yet", 2, 2]);
  talk.hangUp();
  await talk.run;
  await channel.close();
});

test("a gateway that says that it takes longer than the grace stops it when that is over", async () => {
  const { world, channel, bank } = await opened();
  const talk = await begun(channel, { graceMs: 20_000 });
  bank.refusals.push({ code: "unavailable", retry_after_s: 100 });
  await world.advance(79_999);
  assert.equal(talk.ended, "not yet");
  await world.advance(1);
  assert.equal(stopped(talk, "offline").code, "unavailable");
  await channel.close();
});

test("the same call begun again goes on with the unit of now", async () => {
  const { world, channel, bank } = await opened();
  const first = await begun(channel);
  await world.advance(70_000);
  assert.equal(bank.used(VOICE), 2);
  const { key } = first.meter;
  first.hangUp();
  await first.run;
  const again = await begun(channel, { key });
  assert.equal(bank.used(VOICE), 2);
  await world.advance(49_999);
  assert.equal(bank.used(VOICE), 2);
  await world.advance(1);
  assert.deepEqual([bank.used(VOICE), again.meter.units], [3, 2]);
  again.hangUp();
  await again.run;
  await channel.close();
});

test("units have one number for one stretch of time", () => {
  const key = `${(1_000_000).toString(16).padStart(12, "0")}${"a".repeat(16)}`;
  assert.deepEqual(unitOf(key, 60_000, 1_000_000), { number: 0, goneMs: 0 });
  assert.deepEqual(unitOf(key, 60_000, 1_059_999), { number: 0, goneMs: 59_999 });
  assert.deepEqual(unitOf(key, 60_000, 1_060_000), { number: 1, goneMs: 0 });
  assert.deepEqual(unitOf(key, 60_000, 999_000), { number: 0, goneMs: 0 }, "clocks that differ a little");
  assert.deepEqual(unitOf(key, 60_000, 900_000), { number: 15, goneMs: 0 }, "a time to come");
  assert.deepEqual(unitOf("my call", 60_000, 125_000), { number: 2, goneMs: 5_000 });
});

test("a function that goes on after the meter stopped is nobody's concern, whatever it does", async () => {
  const { world, channel, bank } = await opened();
  bank.limits[VOICE] = 1;
  let fail;
  const running = new Meter(channel, VOICE).run(() => new Promise((_, reject) => (fail = reject)));
  const rejected = assert.rejects(running, { reason: "exhausted" });
  await world.advance(60_000);
  await rejected;
  fail(new Error("later"));
  await settle();
  await channel.close();
});

test("what the function throws, at once or later, is what it ends with, and nothing is taken after that", async () => {
  const { world, channel, bank } = await opened();
  const failing = () => {
    throw new Error("mine");
  };
  const meter = new Meter(channel, VOICE);
  await assert.rejects(meter.run(failing), { message: "mine" });
  await assert.rejects(meter.run(failing), /runs once/);
  await world.advance(600_000);
  assert.equal(bank.used(VOICE), 1);
  await channel.close();
  assert.deepEqual(world.remains, { timers: 0, page: 0, sockets: 0 });
});

test("what can not be is refused", async () => {
  const { channel } = await opened();
  const make =
    (options, quota = VOICE) =>
    () =>
      new Meter(channel, quota, options);
  assert.throws(() => new Meter({}, VOICE), TypeError);
  for (const wrong of [
    { unitMs: 0 },
    { graceMs: -1 },
    { amount: 0 },
    { key: "" },
    { key: "k".repeat(117) },
    { org: "" },
  ]) {
    assert.throws(make(wrong), TypeError);
  }
  assert.throws(make({}, ""), TypeError);
  make({ key: "k".repeat(116) })();
  await channel.close();
});
