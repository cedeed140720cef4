import assert from "node:assert/strict";
import { test } from "node:test";

import { Channel, Disconnected, NotFound } from "../../../client_sdk/js/gateway.js";
import { ADA, World, adasDocument, collectGarbage, made, opened, settle } from "./support/world.mjs";

// --- what is held ---

test("opening waits for the documents, and then reading does not wait", async () => {
  const { world, channel, gateway } = await opened();
  assert.equal(world.socket.url, "ws://gateway.example/ws");
  assert.deepEqual(world.socket.protocols, ["gateway.v1+json"]);
  assert.deepEqual(gateway.tokens, ["t1"]);
  assert.deepEqual(channel.document, adasDocument());
  assert.deepEqual({ ...channel.documents }, { [ADA]: adasDocument() });
  assert.deepEqual([...channel.permissions].sort(), ["can_use_sms", "can_use_voice"]);
  assert.ok(channel.can("can_use_voice"));
  assert.ok(!channel.can("can_fly") && !channel.can("constructor") && !channel.can("__proto__"));
  assert.equal(channel.quotas.voice_minutes.remaining, 88);
  assert.deepEqual(channel.freshness, { state: "live", ageS: 0, reason: "" });
  assert.deepEqual([channel.principal, channel.sessionId, channel.seq, channel.expiresAt], [ADA, "s1", 5, null]);
  assert.deepEqual([channel.trouble, channel.mismatches, channel.verified], [null, 0, true]);
  await channel.close();
});

test("before it is opened nothing is held, and nothing can be asked", async () => {
  const world = new World();
  const channel = new Channel(null, "t1", { environment: world.environment });
  const { document, documents, quotas, seq } = channel;
  assert.deepEqual([document, { ...documents }, { ...quotas }, seq], [{}, {}, {}, 0]);
  assert.deepEqual(channel.freshness, { state: "offline", ageS: null, reason: "connecting" });
  for (const asking of [channel.ping(), channel.watch("a"), channel.sync(), channel.waitFor(1), channel.consume("q")]) {
    await assert.rejects(asking, (error) => error instanceof Disconnected && error.code === "closed");
  }
  await channel.close();
  assert.equal(world.sockets.length, 0);
});

test("what did not change is the same object, however often it is read", async () => {
  const { channel, gateway } = await opened();
  const read = () => [channel.quotas, channel.permissions, channel.documents, channel.document];
  const before = read();
  assert.ok(read().every((value, number) => value === before[number]));
  const changes = [];
  channel.on("change", (change) => changes.push(change));
  gateway.rename("King");
  await settle();
  assert.ok(read().every((value, number) => value !== before[number]));
  assert.equal(changes[0].patch, changes[0].patch);
  assert.equal(before[2][ADA].identity.name, "Ada");
  const after = channel.documents;
  gateway.documents["org:o_acme"] = {};
  await channel.watch("org:o_acme");
  assert.notEqual(channel.documents, after);
  const two = channel.documents;
  await channel.unwatch("org:o_acme");
  assert.notEqual(channel.documents, two);
  await channel.close();
});

test("names that every object inherits are no quotas and no documents", async () => {
  const { channel } = await opened();
  for (const name of ["constructor", "toString", "__proto__"]) {
    assert.deepEqual([channel.quotas[name], channel.documents[name]], [undefined, undefined]);
  }
  await channel.close();
});

test("an update changes the document and leaves the one before alone", async () => {
  const { channel, gateway } = await opened();
  const before = channel.document;
  const seq = gateway.rename("Ada King");
  await settle();
  assert.equal(channel.document.identity.name, "Ada King");
  assert.equal(before.identity.name, "Ada");
  assert.equal(channel.seq, seq);
  await channel.close();
});

test("updates are applied in order while their digests are computed, whatever comes in between", async () => {
  const { world, channel, gateway } = await opened();
  const waiting = [];
  const { digest } = world.environment.subtle;
  world.environment.subtle.digest = async (...given) => {
    await new Promise((resolve) => waiting.push(resolve));
    return digest(...given);
  };
  const names = [];
  channel.on("change", (change) => names.push(change.data.identity.name));
  gateway.rename("one");
  gateway.rename("two");
  world.socket.end(1001, "");
  await settle();
  assert.deepEqual([names, channel.freshness.state, waiting.length], [[], "live", 1]);
  waiting.shift()();
  await settle();
  assert.deepEqual(names, ["one"]);
  waiting.shift()();
  await settle();
  assert.deepEqual([names, channel.freshness.state], [["one", "two"], "offline"]);
  assert.equal(channel.mismatches, 0);
  await channel.close();
});

test("a document that is unwatched while its digest is computed does not come back", async () => {
  const { world, channel, gateway } = await opened();
  const waiting = [];
  const { digest } = world.environment.subtle;
  world.environment.subtle.digest = async (...given) => {
    await new Promise((resolve) => waiting.push(resolve));
    return digest(...given);
  };
  gateway.rename("late");
  await settle();
  const unwatching = channel.unwatch("self");
  await settle();
  waiting.splice(0).forEach((go) => go());
  await unwatching;
  assert.deepEqual({ ...channel.documents }, {});
  await channel.close();
});

test("a copy that is not what its revision says is asked for again", async () => {
  const { world, channel, gateway } = await opened();
  const rev = "0123456789abcdef";
  world.socket.deliver({ op: "snapshot", doc: ADA, rev, seq: 6, data: { identity: { name: "Eve" } } });
  await settle();
  assert.equal(world.socket.sent.at(-1).op, "sync");
  await settle();
  assert.deepEqual([channel.document, channel.mismatches], [gateway.documents[ADA], 1]);
  await channel.close();
});

test("without digests nothing is checked, and the channel says so", async () => {
  const world = new World();
  world.environment.subtle = null;
  const channel = new Channel(null, "t1", { environment: world.environment });
  await channel.open();
  world.socket.deliver({ op: "snapshot", doc: ADA, rev: "0123456789abcdef", seq: 6, data: { a: 1 } });
  await settle();
  assert.deepEqual([channel.verified, channel.document, channel.mismatches], [false, { a: 1 }, 0]);
  await channel.close();
});

// --- what happens ---

test("callbacks are told of changes, of freshness, of trouble and of the end", async () => {
  const { world, channel, gateway } = await opened({ backoffBaseMs: 10 });
  const told = [];
  channel.on("change", ({ kind, doc, causes, patch }) => told.push([kind, doc, causes, patch]));
  channel.on("freshness", ({ state }) => told.push(state));
  channel.on("trouble", ({ code }) => told.push(code));
  channel.on("ended", (error) => told.push(error));
  gateway.rename("King");
  await settle();
  world.socket.end();
  await world.advance(50);
  await channel.close();
  const change = ["update", ADA, ["profile"], { identity: { name: "King" } }];
  assert.deepEqual(told, [change, "disconnected", "offline", "stale", "live", "offline", null]);
});

test("who asks after the end is told of it, soon, unless they do not want to know any more", async () => {
  const { world, channel } = await opened();
  world.socket.end(4500, "");
  await settle();
  const told = [];
  channel.on("ended", ({ code }) => told.push(code));
  channel.on("ended", () => told.push("never"))();
  channel.on("ended", () => {
    throw new Error("in the application");
  });
  assert.deepEqual(told, []);
  await Promise.resolve();
  assert.deepEqual([told, world.reported[0].message], [["revoked"], "in the application"]);
  await settle();
  assert.equal(told.length, 1);
  const closed = made();
  await closed.channel.close();
  assert.equal(await new Promise((resolve) => closed.channel.on("ended", resolve)), null);
});

test("a callback may ask for one document, under any of its names, and no more after it was ended", async () => {
  const { channel, gateway } = await opened();
  const told = [];
  const ends = ["self", ADA, "org:o_acme"].map((doc) => channel.on("change", () => told.push(doc), { doc }));
  gateway.rename("King");
  await settle();
  assert.deepEqual(told, ["self", ADA]);
  ends.forEach((end) => end());
  gateway.rename("Ada");
  await settle();
  assert.equal(told.length, 2);
  assert.throws(() => channel.on("freshness", () => undefined, { doc: "self" }), TypeError);
  assert.throws(() => channel.on("nothing", () => undefined), TypeError);
  assert.throws(() => channel.on("change", "no function"), TypeError);
  await channel.close();
});

test("what callbacks throw, at once or later, is reported and breaks nothing", async () => {
  const { world, channel, gateway } = await opened();
  const told = [];
  channel.on("change", () => {
    throw new Error("at once");
  });
  channel.on("change", async () => {
    throw new Error("later");
  });
  channel.on("change", (change) => told.push(change.seq));
  const seq = gateway.rename("King");
  await settle();
  assert.deepEqual(told, [seq]);
  assert.deepEqual(world.reported.map(({ message }) => message).sort(), ["at once", "later"]);
  assert.equal(channel.freshness.state, "live");
  await channel.close();
});

test("a callback may close the channel, and ask for things, in the middle of what happens", async () => {
  const { world, channel, gateway } = await opened();
  const told = [];
  channel.on("change", () => {
    void channel.close().then(() => told.push("closed"));
    channel.ping().catch(({ code }) => told.push(code));
    told.push(channel.document.identity.name);
  });
  channel.on("change", () => told.push("second"));
  gateway.rename("King");
  await settle();
  assert.deepEqual(told.slice(0, 2), ["King", "second"]);
  assert.deepEqual(told.slice(2).sort(), ["closed", "closed"]);
  assert.deepEqual(world.remains, { timers: 0, page: 0, sockets: 0 });
});

test("a callback that is ended by another one before its turn is not called", async () => {
  const { channel, gateway } = await opened();
  const told = [];
  channel.on("change", () => end());
  const end = channel.on("change", () => told.push("ended"));
  gateway.rename("King");
  await settle();
  assert.deepEqual(told, []);
  await channel.close();
});

test("an iteration begins with what is held, conflates, and ends with the channel", async () => {
  const { channel, gateway } = await opened();
  const changes = channel.changes();
  const first = await changes.next();
  assert.deepEqual([first.value.kind, first.value.data], ["snapshot", adasDocument()]);
  gateway.rename("one");
  gateway.change((data) => delete data.permissions.can_use_sms, ["permissions"]);
  await settle();
  const { value } = await changes.next();
  assert.deepEqual([value.kind, value.causes], ["update", ["profile", "permissions"]]);
  assert.deepEqual(value.patch, { identity: { name: "one" }, permissions: { can_use_sms: null } });
  const waiting = [changes.next(), changes.next()];
  gateway.rename("two");
  await settle();
  await channel.close();
  const [two, end] = await Promise.all(waiting);
  assert.deepEqual([two.value.data.identity.name, end.done], ["two", true]);
  assert.deepEqual(await changes.next(), { done: true, value: undefined });
});

test("an iteration throws what ended the channel for good, once", async () => {
  const { world, channel } = await opened();
  const seen = [];
  const iterating = (async () => {
    for await (const change of channel) {
      seen.push(change.kind);
    }
  })();
  await settle();
  world.socket.deliver({ op: "ended", code: "revoked", message: "It was revoked.", reconnect: "never" });
  await assert.rejects(iterating, { name: "Revoked", code: "revoked", message: "It was revoked." });
  assert.deepEqual(seen, ["snapshot", "gone"]);
  const late = channel.changes();
  await assert.rejects(late.next(), { code: "revoked" });
  assert.ok((await late.next()).done);
  assert.deepEqual([{ ...channel.documents }, channel.can("can_use_voice")], [{}, false]);
  await channel.close();
  assert.deepEqual(world.remains, { timers: 0, page: 0, sockets: 0 });
});

test("an iteration that was left, or that nobody holds, is forgotten", { timeout: 20_000 }, async () => {
  const { channel, gateway } = await opened();
  for await (const change of channel) {
    assert.equal(change.kind, "snapshot");
    break;
  }
  let kept = channel.changes();
  await kept.return();
  gateway.rename("King");
  await settle();
  assert.ok((await kept.next()).done);
  const reference = new WeakRef(kept);
  kept = null;
  while (reference.deref() !== undefined) {
    await settle();
    collectGarbage();
  }
  await channel.close();
});

test("an iteration in which somebody waits is held", { timeout: 20_000 }, async () => {
  const { channel, gateway } = await opened();
  const names = [];
  void (async () => {
    for await (const change of channel.changes()) {
      names.push(change.data.identity?.name);
    }
  })();
  await settle();
  collectGarbage();
  await settle();
  gateway.rename("King");
  await settle();
  assert.deepEqual(names, ["Ada", "King"]);
  await channel.close();
});

// --- requests ---

test("documents are watched, refused, sent again and left", async () => {
  const { world, channel, gateway } = await opened();
  gateway.documents["org:o_acme"] = { organization: { name: "Acme" } };
  const watched = await channel.watch(["org:o_acme", "user:u_grace"]);
  assert.deepEqual(watched.docs, ["org:o_acme"]);
  assert.ok(watched.refused.get("user:u_grace") instanceof NotFound);
  assert.deepEqual(channel.documents["org:o_acme"], { organization: { name: "Acme" } });
  await assert.rejects(channel.watch("user:u_grace"), NotFound);
  assert.deepEqual(await channel.sync("org:o_acme"), { organization: { name: "Acme" } });
  await channel.unwatch("org:o_acme");
  assert.deepEqual(Object.keys(channel.documents), [ADA]);
  for (const wrong of [[], "", [1], "user:u_ada@0123456789abcdef"]) {
    await assert.rejects(channel.watch(wrong), TypeError);
  }
  world.chance = 0;
  assert.equal(await channel.ping(), 0);
  await channel.close();
});

test("a position is waited for, as long as somebody wants", async () => {
  const { channel, gateway } = await opened();
  const waiting = channel.waitFor(6);
  gateway.rename("King");
  assert.equal(await waiting, 6);
  const giving = new AbortController();
  const given = channel.waitFor(1000, { signal: giving.signal });
  giving.abort(new Error("enough"));
  await assert.rejects(given, { message: "enough" });
  await assert.rejects(channel.waitFor(1000, { signal: giving.signal }), { message: "enough" });
  await assert.rejects(channel.waitFor(1.5), TypeError);
  await channel.close();
});

test("nobody has to wait: a signal ends every request", async () => {
  const { world, channel, gateway, bank } = await opened();
  gateway.silent = true;
  const asks = {
    ping: (signal) => channel.ping({ signal }),
    sync: (signal) => channel.sync("self", { signal }),
    watch: (signal) => channel.watch("org:o_acme", { signal }),
    waitFor: (signal) => channel.waitFor(1000, { signal }),
    consume: (signal) => channel.consume("voice_minutes", 1, { key: "k", signal }),
    lease: (signal) => channel.lease("voice_minutes", 1, { signal }),
  };
  for (const [name, ask] of Object.entries(asks)) {
    const giving = new AbortController();
    const asking = ask(giving.signal);
    await settle();
    giving.abort(new Error(`enough of ${name}`));
    await assert.rejects(asking, { message: `enough of ${name}` });
    const heard = world.socket.sent.length;
    await assert.rejects(ask(giving.signal), { message: `enough of ${name}` });
    assert.equal(world.socket.sent.length, heard, "nothing is asked for who does not want to know");
  }
  gateway.silent = false;
  await world.advance(120_000);
  assert.deepEqual([bank.sent("consume").length, bank.sent("reserve").length, bank.leases.size], [0, 0, 0]);
  assert.deepEqual([channel.freshness.state, world.reported], ["live", []]);
  await channel.close();
});

test("what is spent is charged once, over a connection that is lost with the answer", async () => {
  const { world, channel, gateway } = await opened();
  const { bank } = gateway;
  const balance = await channel.consume("voice_minutes", 2, { key: "k" });
  assert.deepEqual([balance.quota, balance.used, balance.remaining, balance.seq], ["voice_minutes", 2, 98, 101]);
  gateway.silent = true;
  const asking = channel.consume("voice_minutes", 3);
  await settle();
  bank.answer(world.socket.sent.at(-1)); // carried out, and the answer is lost
  gateway.silent = false;
  world.socket.end();
  await world.advance(1000);
  assert.equal((await asking).used, 5);
  assert.equal(bank.sent("consume").length, 3);
  await assert.rejects(channel.consume("voice_minutes", 1000), { name: "QuotaExceeded", remaining: 95 });
  await assert.rejects(channel.consume("letters"), NotFound);
  for (const wrong of [() => channel.consume("", 1), () => channel.consume("q", 0), () => channel.consume("q", 1.5)]) {
    await assert.rejects(wrong(), TypeError);
  }
  await channel.close();
});
