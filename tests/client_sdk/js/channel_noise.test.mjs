import assert from "node:assert/strict";
import { test } from "node:test";

import { Channel, ChannelError, Meter } from "../../../client_sdk/js/gateway.js";
import { World, settle } from "./support/world.mjs";

const LIVES = 60;
const STEPS = 40;
const VOICE = "voice_minutes";
const OPTIONS = { backoffBaseMs: 50, backoffCapMs: 2000, requestTimeoutMs: 1000, pongTimeoutMs: 2000 };

/** Numbers in [0, 1), the same ones for the same seed (mulberry32). */
function dice(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** What can happen to a channel; everything that is asked may fail, and nobody may be left waiting. */
function happenings(world, channel, roll, asked) {
  const { gateway } = world;
  const ask = (promise) => asked.push(promise.then(undefined, (error) => error));
  let count = 0;
  return [
    () => gateway.rename(`name ${(count += 1)}`),
    () => gateway.rename(`name ${(count += 1)}`),
    () => world.socket?.end(roll() < 0.5 ? 1006 : 4000 + Math.floor(roll() * 6)),
    () => world.socket?.fail(),
    () => world.socket?.deliver('{"op":'),
    () => (gateway.silent = !gateway.silent),
    () => (gateway.accepts = !gateway.accepts),
    () => (gateway.saysGoodbye = !gateway.saysGoodbye),
    () => world.window.tell(["online", "offline", "pagehide", "pageshow"][Math.floor(roll() * 4)]),
    () => world.document.tell(roll() < 0.5 ? "visibilitychange" : "resume"),
    () => world.sleep(roll() * 100_000),
    () => (world.chance = roll()),
    () => ask(channel.consume(VOICE, 1, { timeoutMs: 5000 })),
    () => ask(channel.lease(VOICE, 2, { ttlS: 5, timeoutMs: 5000 }, async (lease) => lease.use())),
    () => ask(new Meter(channel, VOICE, { unitMs: 3000, graceMs: 5000 }).run(async () => channel.ping())),
    () => ask(channel.watch(["self", "user:u_nobody"])),
    () => ask(channel.sync()),
    () => ask(channel.ping()),
    () => ask(channel.waitFor(gateway.seq)),
    () => void channel.changes().next(),
  ];
}

/** The faults end: whoever is still there has to find the truth. */
function heal(world) {
  Object.assign(world.gateway, { silent: false, accepts: true, saysGoodbye: true });
  world.window.tell("pageshow");
  world.window.tell("online");
}

for (let seed = 1; seed <= LIVES; seed += 1) {
  test(`life ${seed}: whatever happens, the truth is found in the end, and nothing is left`, async () => {
    const roll = dice(seed);
    const world = new World();
    const channel = new Channel(null, async () => "t1", { environment: world.environment, ...OPTIONS });
    const seqs = [];
    channel.on("change", ({ seq }) => seqs.push(seq));
    await channel.open();
    const asked = [];
    const possible = happenings(world, channel, roll, asked);
    for (let step = 0; step < STEPS; step += 1) {
      possible[Math.floor(roll() * possible.length)]();
      await world.advance(roll() < 0.5 ? 0 : roll() * 5000);
    }
    const closesEarly = roll() < 0.3;
    if (!closesEarly) {
      heal(world);
      await world.advance(60_000);
      assert.equal(channel.freshness.state, "live");
      assert.deepEqual(channel.document, world.gateway.documents[channel.principal]);
      assert.deepEqual(
        seqs,
        [...seqs].sort((one, other) => one - other),
      );
      assert.ok((await Promise.all(asked)).length === asked.length);
    }
    const closing = channel.close();
    await world.advance(2000);
    await closing;
    await Promise.all(asked);
    await settle();
    assert.deepEqual(world.remains, { timers: 0, page: 0, sockets: 0 });
    assert.equal(channel.mismatches, 0);
    const faults = world.reported.filter((error) => !(error instanceof ChannelError));
    assert.deepEqual(faults, [], "nothing but leases that could not be settled");
  });
}
