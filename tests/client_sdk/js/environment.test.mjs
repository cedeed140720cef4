import assert from "node:assert/strict";
import { test } from "node:test";

import { Alarms } from "../../../client_sdk/js/alarms.js";
import { makeClock, makeEnvironment } from "../../../client_sdk/js/environment.js";
import { Channel } from "../../../client_sdk/js/gateway.js";
import { World, settle } from "./support/world.mjs";

async function opened(options = {}) {
  const world = new World();
  const channel = new Channel(null, "t1", { environment: world.environment, ...options });
  await channel.open();
  return { world, channel, gateway: world.gateway };
}

const pings = (world) => world.sockets.flatMap(({ sent }) => sent).filter(({ op }) => op === "ping").length;

// --- the page ---

for (const [target, event] of [
  ["document", "visibilitychange"],
  ["document", "resume"],
  ["window", "online"],
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
    assert.ok(world.next <= 250);
    await world.advance(250);
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

test("a page that is put away while it asks for a token, or waits, connects when it is back", async () => {
  for (const moment of ["asking", "waiting"]) {
    const world = new World();
    const give = [];
    const token = moment === "asking" ? () => new Promise((resolve) => give.push(resolve)) : "t1";
    const channel = new Channel(null, token, { environment: world.environment, openTimeoutMs: null });
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

test("the clock only goes forward, and counts sleep", () => {
  let [steady, wall] = [100, 1_000_000];
  const clock = makeClock(
    () => steady,
    () => wall,
  );
  const pass = (steadyMs, wallMs) => {
    steady += steadyMs;
    wall += wallMs;
    return clock();
  };
  assert.equal(clock(), 100);
  assert.equal(pass(50, 50), 150);
  assert.equal(pass(10, 1500), 160, "a wall's clock that is put right a little");
  assert.equal(pass(10, -90_000), 170, "one that is set back");
  assert.equal(pass(10, 10), 180);
  assert.equal(pass(1000, 61_000), 61_180, "a minute of sleep");
  assert.equal(pass(5, 5), 61_185);
});

test("alarms are never early, whatever the timer does, and may be far away", () => {
  const timers = [];
  let now = 0;
  const environment = {
    now: () => now,
    setTimeout: (callback, delayMs) => timers.push({ callback, delayMs }),
    clearTimeout: () => undefined,
  };
  const alarms = new Alarms(environment);
  const rung = [];
  alarms.at(2 ** 40, () => rung.push(now));
  assert.equal(timers[0].delayMs, 2 ** 31 - 1);
  now = 2 ** 31 - 1.5;
  timers[0].callback();
  now = 2 ** 40 - 0.4;
  timers[1].callback();
  assert.deepEqual([rung, timers[2].delayMs], [[], 1]);
  now = 2 ** 40;
  timers[2].callback();
  assert.deepEqual(rung, [2 ** 40]);
  alarms.at(Infinity, () => rung.push("never"))();
  assert.equal(timers.length, 3);
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
