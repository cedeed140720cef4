import assert from "node:assert/strict";
import { test } from "node:test";

import { Alarms } from "../../../client_sdk/js/alarms.js";
import { makeEnvironment } from "../../../client_sdk/js/environment.js";
import { Channel } from "../../../client_sdk/js/gateway.js";
import { QUICK, World, opened, settle } from "./support/world.mjs";

const pings = (world) => world.sockets.flatMap(({ sent }) => sent).filter(({ op }) => op === "ping").length;

// --- the page ---

for (const [target, event, spreadMs] of [
  ["document", "visibilitychange", 250],
  ["document", "resume", 250],
  ["window", "online", 2000],
]) {
  test(`${event} has the connection looked at at once`, async () => {
    const { world, channel } = await opened();
    world[target].tell(event);
    await settle();
    assert.deepEqual([pings(world), world.sockets.length, channel.freshness.state], [1, 1, "live"]);
    await channel.close();
  });

  test(`${event} ends a wait, within the first bound of the jitter`, async () => {
    const { world, channel, gateway } = await opened();
    gateway.accepts = false;
    world.socket.end();
    await world.advance(300_000);
    gateway.accepts = true;
    world.chance = 0.9;
    const before = world.sockets.length;
    world[target].tell(event);
    assert.ok(world.next <= spreadMs);
    await world.advance(spreadMs);
    assert.deepEqual([channel.freshness.state, world.sockets.length], ["live", before + 1]);
    await channel.close();
  });
}

test("a page that becomes hidden is none that is looked at", async () => {
  const { world, channel } = await opened();
  world.document.visibilityState = "hidden";
  world.document.tell("visibilitychange");
  await settle();
  assert.equal(pings(world), 0);
  await channel.close();
});

test("a wait that the gateway wished is not cut short", async () => {
  const { world, channel } = await opened();
  world.socket.deliver({ op: "ended", code: "overloaded", message: "Full.", reconnect: "later", retry_after_s: 20 });
  await settle();
  world.window.tell("online");
  world.document.tell("visibilitychange");
  await world.advance(19_999);
  assert.equal(world.sockets.length, 1);
  await world.advance(5000);
  assert.equal(channel.freshness.state, "live");
  await channel.close();
});

test("a page that comes back after the connection died finds out within a ping", async () => {
  const { world, channel, gateway } = await opened({ pongTimeoutMs: 2000 });
  gateway.silent = true;
  world.sleep(600_000);
  world.document.tell("visibilitychange");
  assert.equal(pings(world), 1);
  gateway.silent = false;
  await world.advance(2500);
  assert.deepEqual([channel.freshness.state, world.sockets.length], ["live", 2]);
  await channel.close();
});

test("what was due while timers slept comes first when the page wakes", async () => {
  const { world, channel, gateway } = await opened();
  gateway.silent = true;
  await world.advance(27_000);
  assert.equal(pings(world), 1);
  world.sleep(60_000);
  world.document.tell("visibilitychange");
  assert.equal(channel.freshness.state, "offline");
  gateway.silent = false;
  await world.advance(250);
  assert.equal(channel.freshness.state, "live");
  await channel.close();
});

test("without a network it is offline at once, and the socket is kept until a ping fails", async () => {
  const { world, channel } = await opened();
  const states = [];
  channel.on("freshness", ({ state, reason }) => states.push([state, reason]));
  world.gateway.silent = true;
  world.window.tell("offline");
  assert.deepEqual(states, [["offline", "network"]]);
  assert.equal(world.socket.readyState, 1);
  world.gateway.silent = false;
  world.window.tell("online");
  await world.advance(11_000);
  assert.equal(channel.freshness.state, "live");
  await channel.close();
});

test("a page that is put away hangs up, waits, and comes back live with what it held", async () => {
  const { world, channel, gateway } = await opened();
  const held = channel.document;
  world.window.tell("pagehide");
  assert.deepEqual(world.socket.closed, [1000, ""]);
  assert.equal(channel.freshness.state, "offline");
  await world.advance(600_000);
  assert.equal(world.sockets.length, 1);
  world.document.tell("resume");
  world.window.tell("online");
  await world.advance(60_000);
  assert.equal(world.sockets.length, 1);
  world.window.tell("pageshow");
  await world.advance(250);
  assert.deepEqual([channel.freshness.state, world.sockets.length], ["live", 2]);
  assert.equal(channel.document, held);
  assert.match(world.socket.sent[0].watch[0], /^self@[0-9a-f]{16}$/);
  gateway.rename("King");
  await settle();
  assert.equal(channel.document.identity.name, "King");
  await channel.close();
});

test("who leaves a page sees no trouble, and does not see it become offline", async () => {
  const { world, channel } = await opened();
  const told = [];
  channel.on("trouble", ({ code }) => told.push(code));
  channel.on("freshness", ({ state }) => told.push(state));
  world.window.tell("pagehide");
  await world.advance(60_000);
  assert.deepEqual([told, channel.trouble, channel.freshness.state], [[], null, "offline"]);
  world.window.tell("pageshow");
  assert.deepEqual(told, ["offline"]);
  await world.advance(250);
  assert.deepEqual([told.at(-1), channel.trouble], ["live", null]);
  await channel.close();
});

test("leaving a page often is no failure: the next real one waits as if it were the first", async () => {
  const { world, channel, gateway } = await opened({ backoffBaseMs: 100 });
  world.chance = 0.999;
  for (let turn = 0; turn < 20; turn += 1) {
    world.window.tell("pagehide");
    world.window.tell("pageshow");
    await world.advance(300);
    assert.equal(channel.freshness.state, "live");
  }
  const before = world.sockets.length;
  world.socket.end();
  await settle();
  assert.ok(world.next <= 200, `${world.next} ms`);
  await world.advance(200);
  assert.deepEqual([channel.freshness.state, world.sockets.length], ["live", before + 1]);
  assert.deepEqual(gateway.refused.size, 0);
  await channel.close();
});

test("a page that is put away while it asks for a token, or waits, connects when it is back", async () => {
  for (const moment of ["asking", "waiting"]) {
    const world = new World();
    const give = [];
    const token = moment === "asking" ? () => new Promise((resolve) => give.push(resolve)) : "t1";
    const channel = new Channel(null, token, { environment: world.environment, openTimeoutMs: null });
    const troubles = [];
    channel.on("trouble", ({ code }) => troubles.push(code));
    const opening = channel.open();
    await settle();
    if (moment === "waiting") {
      world.socket.end();
      await settle();
    }
    const before = world.sockets.length;
    world.window.tell("pagehide");
    give.shift()?.("t1");
    await world.advance(60_000);
    assert.equal(world.sockets.length, before);
    world.window.tell("pageshow");
    await world.advance(250);
    give.shift()?.("t1");
    await opening;
    assert.equal(channel.freshness.state, "live");
    assert.deepEqual(troubles, moment === "waiting" ? ["disconnected"] : []);
    await channel.close();
  }
});

test("the first pageshow of a page, and events after the end, change nothing", async () => {
  const { world, channel } = await opened();
  world.window.tell("pageshow");
  await settle();
  assert.equal(pings(world), 0);
  await channel.close();
  for (const event of ["pagehide", "pageshow", "online", "offline"]) {
    world.window.tell(event);
  }
  await settle();
  assert.deepEqual([world.sockets.length, world.remains], [1, { timers: 0, page: 0, sockets: 0 }]);
});

// --- time ---

/** Frames of this kind that were sent. */
const sent = (world, kind) => world.sockets.flatMap((socket) => socket.sent).filter(({ op }) => op === kind).length;

test("everything goes by a clock that nobody sets", () => {
  const environment = makeEnvironment();
  const { now } = Date;
  Date.now = () => now() + 3_600_000;
  try {
    assert.ok(environment.wallClock() >= now() + 3_600_000);
    assert.ok(Math.abs(environment.now() - performance.now()) < 1000);
  } finally {
    Date.now = now;
  }
});

for (const [what, stepMs] of [
  ["a computer that slept for eight hours", 28_800_000],
  ["a clock that is set forward by an hour", 3_600_000],
]) {
  test(`${what} has the connection looked at, and nothing is given up for that`, async () => {
    const { world, channel, gateway, bank } = await opened(QUICK);
    gateway.silent = true;
    const asking = channel.consume("voice_minutes", 1, { timeoutMs: 20_000 });
    const waiting = channel.waitFor(gateway.seq + 1);
    await settle();
    gateway.silent = false;
    world.setWall(stepMs);
    await world.advance(15_000);
    assert.deepEqual([pings(world) > 0, world.sockets.length, channel.freshness.state], [true, 1, "live"]);
    assert.equal((await asking).used, 1);
    assert.equal(bank.used("voice_minutes"), 1);
    gateway.rename("King");
    assert.equal(await waiting, gateway.seq);
    const before = pings(world);
    await world.advance(60_000);
    assert.equal(pings(world), before, "once");
    await channel.close();
  });
}

test("a clock that is set back, and one that is put right a little, say nothing", async () => {
  const { world, channel } = await opened(QUICK);
  for (const stepMs of [-3_600_000, 1_900, -1_900, 1_900]) {
    world.setWall(stepMs);
    await world.advance(15_000);
  }
  assert.equal(pings(world), 0);
  world.setWall(2_100);
  await world.advance(15_000);
  assert.equal(pings(world), 1);
  await channel.close();
});

test("the clocks are looked at whenever something happens, however far away the next alarm is", async () => {
  const { world, channel } = await opened(QUICK);
  await world.advance(1_000);
  world.setWall(600_000);
  assert.equal(pings(world), 0);
  world.socket.deliver({ op: "status", store: "ok" });
  await settle();
  assert.equal(pings(world), 1);
  assert.ok(world.next <= 15_000);
  await channel.close();
});

test("what is due rings when something comes over the socket, where timers do not", async () => {
  const { world, channel, gateway, bank } = await opened(QUICK);
  await channel.lease("voice_minutes", 5, { ttlS: 60 });
  world.sleep(21_000);
  assert.equal(sent(world, "extend"), 0);
  gateway.rename("King");
  await settle();
  assert.deepEqual([sent(world, "extend"), bank.sent("extend").length], [1, 1]);
  await channel.close();
});

test("alarms are never early, whatever the timer does, and the timer rings four times a minute", () => {
  const timers = [];
  const cleared = [];
  let now = 0;
  let looks = 0;
  const environment = {
    now: () => now,
    setTimeout: (callback, delayMs) => timers.push({ callback, delayMs }),
    clearTimeout: (timer) => cleared.push(timer),
  };
  const alarms = new Alarms(environment, () => (looks += 1));
  const rung = [];
  alarms.at(40_000, () => rung.push(now));
  const pass = (milliseconds) => {
    now += milliseconds;
    timers.at(-1).callback();
  };
  pass(15_000);
  pass(14_999.5);
  assert.deepEqual([timers.map(({ delayMs }) => delayMs), looks, rung], [[15_000, 15_000, 10_001], 2, []]);
  pass(10_000);
  assert.deepEqual([timers.at(-1).delayMs, rung], [1, []]);
  pass(0.5);
  assert.deepEqual([rung, timers.length, looks], [[40_000], 4, 4]);
  const order = [];
  const end = alarms.at(40_500, () => order.push("ended"));
  alarms.at(40_300, () => order.push(2));
  alarms.at(40_200, () => (end(), order.push(1)));
  alarms.at(Infinity, () => order.push("never"))();
  now = 50_000;
  alarms.ring();
  assert.deepEqual(order, [1, 2]);
  assert.equal(cleared.at(-1), timers.length, "no timer is left when there is no alarm");
  alarms.at(60_000, () => order.push("cleared"));
  alarms.clear();
  assert.equal(cleared.at(-1), timers.length);
});

test("the environment is that of the program where nothing else is given", async () => {
  const environment = makeEnvironment();
  assert.equal(environment.subtle, crypto.subtle);
  assert.deepEqual([environment.document, environment.window, environment.origin], [null, null, null]);
  const [before, random] = [environment.now(), environment.random()];
  assert.ok(random >= 0 && random < 1);
  environment.clearTimeout(environment.setTimeout(() => assert.fail("it was ended"), 1));
  await new Promise((resolve) => environment.setTimeout(() => resolve(undefined), 5));
  assert.ok(environment.now() > before);
  assert.equal(makeEnvironment({ origin: "http://a" }).origin, "http://a");
});
