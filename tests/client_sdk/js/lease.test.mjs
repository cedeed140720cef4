import assert from "node:assert/strict";
import { test } from "node:test";

import { Lease, LeaseExpired, NotFound, QuotaExceeded } from "../../../client_sdk/js/gateway.js";
import { QUICK, opened as openedWith, settle } from "./support/world.mjs";

const VOICE = "voice_minutes";

const opened = (options = {}) => openedWith({ ...QUICK, ...options });

test("a lease holds units while its body goes on, and settles", async () => {
  const { channel, bank } = await opened();
  const left = await channel.lease(VOICE, 5, {}, async (lease) => {
    assert.deepEqual([lease.held, lease.used, lease.left, bank.reserved(VOICE)], [5, 0, 5, 5]);
    lease.use();
    lease.use(2);
    assert.throws(() => lease.use(3), QuotaExceeded);
    assert.throws(() => lease.use(0), TypeError);
    const balance = await lease.add(3);
    assert.deepEqual([lease.held, balance.reserved, lease.balance], [8, 8, balance]);
    return lease.left;
  });
  assert.deepEqual([left, bank.used(VOICE), bank.reserved(VOICE)], [5, 3, 0]);
  await channel.close();
});

test("without a body it lasts until it is committed or released", async () => {
  const { channel, bank } = await opened();
  const committed = await channel.lease(VOICE, 5);
  assert.ok(committed instanceof Lease);
  assert.deepEqual([committed.quota, committed.org, committed.expiresAt], [VOICE, null, "2026-11-21T19:10:00.000Z"]);
  committed.use(4);
  assert.equal((await committed.commit()).used, 4);
  assert.equal((await committed.commit()).used, 4);
  const released = await channel.lease(VOICE, 5, { name: "mine", org: "o_acme" });
  released.use(4);
  assert.deepEqual([released.name, released.org], ["mine", "o_acme"]);
  assert.equal((await released.release()).used, 4);
  const unused = await channel.lease(VOICE, 5);
  await unused.commit();
  assert.deepEqual([bank.used(VOICE), bank.reserved(VOICE)], [4, 0]);
  assert.deepEqual(bank.received.map(({ op }) => op).slice(-5), ["reserve", "extend", "release", "reserve", "release"]);
  await channel.close();
});

test("a lease that is over takes nothing more", async () => {
  const { channel } = await opened();
  const lease = await channel.lease(VOICE, 5);
  await lease.commit();
  assert.throws(() => lease.use(), /not open/);
  await assert.rejects(lease.add(1), /not open/);
  await channel.close();
});

test("what can not be is refused before anything is asked", async () => {
  const { channel, bank } = await opened();
  for (const [quota, amount, options] of [
    ["", 1, {}],
    [VOICE, 0, {}],
    [VOICE, 1, { ttlS: 0.5 }],
    [VOICE, 1, { ttlS: 3601 }],
    [VOICE, 1, { name: "" }],
    [VOICE, 1, { name: "x".repeat(129) }],
    [VOICE, 1, { org: "" }],
    [VOICE, 1, { timeoutMs: 0 }],
  ]) {
    await assert.rejects(channel.lease(quota, amount, options), TypeError);
  }
  await assert.rejects(channel.lease("letters", 1), NotFound);
  await assert.rejects(channel.lease(VOICE, 101), QuotaExceeded);
  assert.equal(bank.received.length, 2);
  await channel.close();
});

test("it extends itself at a third of its life", async () => {
  const { world, channel, bank } = await opened();
  const lease = await channel.lease(VOICE, 5, { ttlS: 12 });
  await world.advance(3_999);
  assert.equal(bank.sent("extend").length, 0);
  await world.advance(2);
  assert.equal(bank.sent("extend").length, 1);
  await world.advance(40_000);
  assert.equal(bank.sent("extend").length, 11);
  lease.use();
  await lease.commit();
  await world.advance(50_000);
  assert.equal(bank.sent("extend").length, 11);
  await channel.close();
});

test("it lives through a reconnect", async () => {
  const { world, channel, gateway, bank } = await opened();
  const lease = await channel.lease(VOICE, 5, { ttlS: 10 });
  gateway.accepts = false;
  world.socket.end();
  await world.advance(7_000);
  gateway.accepts = true;
  await world.advance(2_900);
  assert.equal(channel.freshness.state, "live");
  lease.use(2);
  assert.ok(bank.sent("extend").length > 0);
  await lease.commit();
  assert.deepEqual([bank.used(VOICE), bank.reserved(VOICE)], [2, 0]);
  await channel.close();
});

test("one that could not be extended in time throws when it is used", async () => {
  const { world, channel, gateway } = await opened();
  const lease = await channel.lease(VOICE, 5, { ttlS: 10 });
  gateway.silent = true;
  await world.advance(9_999);
  lease.use();
  await world.advance(1);
  assert.throws(() => lease.use(), LeaseExpired);
  await assert.rejects(lease.add(1), LeaseExpired);
  assert.equal(lease.used, 1);
  await channel.close();
});

test("one that the gateway ended throws when it is used, and is not extended any more", async () => {
  const { world, channel, bank } = await opened();
  const lease = await channel.lease(VOICE, 5, { ttlS: 10 });
  bank.leases.get(lease.name).isOpen = false;
  await world.advance(3_334);
  assert.throws(
    () => lease.use(),
    (error) => error instanceof LeaseExpired && error.cause instanceof LeaseExpired,
  );
  await world.advance(60_000);
  assert.equal(bank.sent("extend").length, 1);
  await channel.close();
});

test("a computer whose steady clock says that it slept too long has lost it", async () => {
  const { world, channel } = await opened();
  const lease = await channel.lease(VOICE, 5, { ttlS: 10 });
  world.sleep(10_001);
  assert.throws(() => lease.use(), LeaseExpired);
  await channel.close();
});

for (const [what, stepMs] of [
  ["eight hours of sleep", 28_800_000],
  ["a clock that is set forward by an hour", 3_600_000],
]) {
  test(`${what} does not end a lease: the gateway is asked at once, and its word counts`, async () => {
    const { world, channel, bank } = await opened();
    const lease = await channel.lease(VOICE, 5);
    world.setWall(stepMs);
    lease.use();
    await world.advance(15_000);
    assert.equal(bank.sent("extend").length, 1);
    lease.use();
    bank.leases.get(lease.name).isOpen = false;
    world.setWall(stepMs);
    await world.advance(15_000);
    assert.throws(() => lease.use(), LeaseExpired);
    assert.equal(lease.used, 2);
    await channel.close();
  });
}

test("a clock that is set back by an hour is nothing to a lease", async () => {
  const { world, channel, bank } = await opened();
  const lease = await channel.lease(VOICE, 5);
  world.setWall(-3_600_000);
  await world.advance(59_000);
  assert.equal(bank.sent("extend").length, 0);
  await world.advance(600_000);
  assert.equal(bank.sent("extend").length, 10);
  lease.use();
  await channel.close();
});

test("a lease that was settled is not extended because the computer slept", async () => {
  const { world, channel, bank } = await opened();
  const lease = await channel.lease(VOICE, 5);
  await lease.release();
  world.setWall(28_800_000);
  await world.advance(60_000);
  assert.equal(bank.sent("extend").length, 0);
  await channel.close();
});

test("the default lease lives in a page whose timers ring once a minute", async () => {
  const { world, channel, bank } = await opened();
  world.throttleMs = 60_000;
  await world.advance(1_000);
  const lease = await channel.lease(VOICE, 5);
  for (let minute = 0; minute < 30; minute += 1) {
    await world.advance(60_000);
    lease.use();
    await lease.add(1);
  }
  assert.ok(bank.leases.get(lease.name).isOpen);
  await channel.close();
});

test("one that had to wait for its connection is extended before anybody has it", async () => {
  const { world, channel, gateway, bank } = await opened();
  gateway.accepts = false;
  world.socket.end();
  await settle();
  const used = channel.lease(VOICE, 5, { ttlS: 10, timeoutMs: 60_000 }, async (lease) => {
    lease.use();
    return bank.sent("extend").length;
  });
  await world.advance(9_999);
  gateway.accepts = true;
  await world.advance(600);
  assert.equal(await used, 1);
  await channel.close();
});

test("one that came soon is not extended at once", async () => {
  const { world, channel, bank } = await opened();
  await channel.lease(VOICE, 5, { ttlS: 10 });
  await world.advance(1_000);
  assert.equal(bank.sent("extend").length, 0);
  await channel.close();
});

test("a beginning that nobody waits for any more gives the units back", async () => {
  const { world, channel, gateway, bank } = await opened({ requestTimeoutMs: 500 });
  gateway.silent = true;
  const giving = new AbortController();
  const beginning = assert.rejects(channel.lease(VOICE, 5, { signal: giving.signal }), { message: "enough" });
  await settle();
  bank.answer(world.socket.sent.at(-1));
  assert.equal(bank.reserved(VOICE), 5);
  gateway.silent = false;
  giving.abort(new Error("enough"));
  await beginning;
  await world.advance(1_000);
  assert.deepEqual([bank.reserved(VOICE), world.reported], [0, []]);
  await channel.close();
});

test("a signal is for the beginning: afterwards it ends nothing", async () => {
  const { world, channel, bank } = await opened();
  const giving = new AbortController();
  const lease = await channel.lease(VOICE, 5, { ttlS: 10, signal: giving.signal });
  giving.abort();
  await world.advance(60_000);
  lease.use();
  await lease.commit();
  assert.deepEqual([bank.used(VOICE), bank.reserved(VOICE)], [1, 0]);
  await channel.close();
});

test("the body may stand where the options would", async () => {
  const { channel, bank } = await opened();
  assert.equal(await channel.lease(VOICE, 5, async (lease) => (lease.use(2), lease.left)), 3);
  assert.deepEqual([bank.used(VOICE), bank.reserved(VOICE)], [2, 0]);
  await channel.close();
});

test("a body that throws settles all the same, and its error goes first", async () => {
  const { world, channel, bank } = await opened();
  const failing = (error) => async (lease) => {
    lease.use(2);
    throw error;
  };
  await assert.rejects(channel.lease(VOICE, 5, {}, failing(new Error("mine"))), { message: "mine" });
  assert.deepEqual([bank.used(VOICE), bank.reserved(VOICE), world.reported], [2, 0, []]);
  const ending = async (lease) => {
    lease.use();
    bank.leases.get(lease.name).isOpen = false;
    bank.refusals.push({ code: "lease_expired" });
    throw new Error("mine too");
  };
  await assert.rejects(channel.lease(VOICE, 5, {}, ending), { message: "mine too" });
  assert.ok(world.reported[0] instanceof LeaseExpired);
  const late = async (lease) => {
    lease.use();
    bank.refusals.push({ code: "lease_expired" });
  };
  await assert.rejects(channel.lease(VOICE, 5, {}, late), LeaseExpired);
  await channel.close();
});

test("a beginning of which nobody knows whether it was carried out gives the units back", async () => {
  const { world, channel, gateway, bank } = await opened({ requestTimeoutMs: 500 });
  gateway.silent = true;
  const beginning = assert.rejects(channel.lease(VOICE, 5, { timeoutMs: 2000 }), { code: "request_timeout" });
  await settle();
  bank.answer(world.socket.sent.at(-1));
  assert.equal(bank.reserved(VOICE), 5);
  await world.advance(2001);
  await beginning;
  gateway.silent = false;
  await world.advance(12_000);
  assert.equal(bank.reserved(VOICE), 0);
  assert.deepEqual(world.reported, []);
  await channel.close();
});

test("an answer that is lost on the way changes nothing", async () => {
  const { world, channel, gateway, bank } = await opened();
  const lease = await channel.lease(VOICE, 5);
  lease.use(3);
  gateway.silent = true;
  const committing = lease.commit();
  await settle();
  bank.answer(world.socket.sent.at(-1));
  gateway.silent = false;
  world.socket.end();
  await world.advance(1000);
  assert.equal((await committing).used, 3);
  assert.deepEqual([bank.used(VOICE), bank.sent("commit").length], [3, 2]);
  await channel.close();
});

test("closing the channel leaves no timer of a lease behind", async () => {
  const { world, channel } = await opened();
  const lease = await channel.lease(VOICE, 5);
  await channel.close();
  assert.deepEqual(world.remains, { timers: 0, page: 0, sockets: 0 });
  await assert.rejects(lease.commit(), { code: "closed" });
  await world.advance(120_000);
  assert.deepEqual(world.reported, []);
});

test("it can be disposed of", async () => {
  const { channel, bank } = await opened();
  const lease = await channel.lease(VOICE, 5);
  lease.use();
  await lease[Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose")]();
  assert.deepEqual([bank.used(VOICE), bank.reserved(VOICE)], [1, 0]);
  await channel.close();
});
