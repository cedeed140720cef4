import assert from "node:assert/strict";
import { test } from "node:test";

import { AuthFailed, Channel, Disconnected, Revoked } from "../../../client_sdk/js/gateway.js";
import { World, made, opened, settle } from "./support/world.mjs";

const NOTHING_LEFT = { timers: 0, page: 0, sockets: 0 };

/** What became of a promise, by now. */
function watched(promise) {
  const parts = { result: "waits" };
  promise.then(
    (value) => (parts.result = value ?? "done"),
    (error) => (parts.result = error),
  );
  return parts;
}

// --- where to ---

test("the server is a URL, or the page's own origin", () => {
  const { environment } = new World();
  const urlOf = (server, origin) => {
    const world = new World();
    const channel = new Channel(server, "t1", { environment: { ...world.environment, origin } });
    void channel.open().catch(() => undefined);
    return settle()
      .then(() => channel.close())
      .then(() => world.socket.url);
  };
  const known = [
    ["https://gateway.example.org", null, "wss://gateway.example.org/ws"],
    ["http://localhost:8787/", null, "ws://localhost:8787/ws"],
    ["wss://a.example/deep/ws?x=1#f", null, "wss://a.example/deep/ws?x=1"],
    [new URL("ws://[::1]:1234"), null, "ws://[::1]:1234/ws"],
    [null, "https://page.example:444", "wss://page.example:444/ws"],
    [undefined, "http://page.example", "ws://page.example/ws"],
  ];
  for (const wrong of ["", "gateway.example.org", "ftp://a.example", "http://", "https://me:secret@a.example", 7]) {
    assert.throws(() => new Channel(wrong, "t1", { environment }), /is no address of a gateway/);
  }
  assert.throws(() => new Channel(null, "t1", { environment: { ...environment, origin: null } }), /name the server/);
  return Promise.all(known.map(async ([server, origin, url]) => assert.equal(await urlOf(server, origin), url)));
});

test("what can not be used is refused at once, and says what to do", () => {
  const { environment } = new World();
  const make =
    (options, token = "t1") =>
    () =>
      new Channel(null, token, { environment, ...options });
  assert.throws(make({ environment: { ...environment, WebSocket: undefined } }), /Node 22.*--experimental-websocket/);
  assert.throws(make({ nothing: 1 }), /nothing/);
  assert.throws(make({ watch: [] }), TypeError);
  assert.throws(make({ openTimeoutMs: 0 }), TypeError);
  assert.throws(make({ closeTimeoutMs: -1 }), TypeError);
  for (const token of ["", "a b", "ä", "a\n", 5, {}, null]) {
    assert.throws(make({}, token), (error) => error instanceof TypeError && !error.message.includes("a b"));
  }
  const given = new World();
  make({ environment: { ...environment, WebSocket: undefined }, WebSocket: given.environment.WebSocket })();
});

// --- opening ---

test("an address is read where the browser can not say beforehand whether it is one", async () => {
  const { canParse } = URL;
  URL.canParse = undefined;
  try {
    const { world, channel } = await opened();
    assert.equal(world.socket.url, "ws://gateway.example/ws");
    assert.throws(() => new Channel("nowhere", "t1", { environment: world.environment }), /no address of a gateway/);
    await channel.close();
  } finally {
    URL.canParse = canParse;
  }
});

test("a channel that is closed before it is opened stays closed", async () => {
  const { world, channel } = made();
  const ends = [];
  channel.on("ended", (error) => ends.push(error));
  const next = channel.changes().next();
  await channel.close();
  assert.deepEqual([ends, (await next).done, (await channel.changes().next()).done], [[null], true, true]);
  await assert.rejects(channel.open(), { code: "closed" });
  await assert.rejects(channel.ping(), { code: "closed", message: "The channel is closed." });
  await channel.close();
  assert.deepEqual([ends.length, world.sockets.length, world.remains], [1, 0, NOTHING_LEFT]);
});

test("a channel ends with the block that it was made in", async () => {
  const { world, channel } = await opened();
  await channel[Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose")]();
  assert.deepEqual([channel.freshness.reason, world.remains], ["closed", NOTHING_LEFT]);
});

test("a channel is opened once", async () => {
  const { channel } = await opened();
  await assert.rejects(channel.open(), /opened once/);
  await channel.close();
  await assert.rejects(channel.open(), /opened once/);
});

test("a bad token ends opening at once", async () => {
  const { world, channel, gateway } = made();
  gateway.refused.add("t1");
  await assert.rejects(channel.open(), AuthFailed);
  assert.deepEqual(world.remains, NOTHING_LEFT);
});

test("a gateway that is not there ends opening in time, and the reason is told", async () => {
  const { world, channel, gateway } = made({ openTimeoutMs: 3000 });
  gateway.accepts = false;
  const opening = watched(channel.open());
  await world.advance(2999);
  assert.equal(opening.result, "waits");
  await world.advance(2);
  assert.ok(opening.result instanceof Disconnected);
  await assert.rejects(channel.ping(), { code: "closed" });
  assert.ok(channel.trouble instanceof Disconnected);
  assert.deepEqual(world.remains, NOTHING_LEFT);
});

test("the error of an opening that took too long has its cause", async () => {
  const { world, channel, gateway } = made({ openTimeoutMs: 3000 });
  gateway.accepts = false;
  const opening = channel.open();
  const rejected = assert.rejects(opening, (error) => {
    assert.match(error.message, /^No session within 3000 ms\. /);
    return error instanceof Disconnected && error.cause === channel.trouble;
  });
  await world.advance(3001);
  await rejected;
});

test("an opening without a limit waits for a gateway that comes later", async () => {
  const { world, channel, gateway } = made({ openTimeoutMs: null });
  gateway.accepts = false;
  const opening = channel.open();
  await world.advance(600_000);
  assert.ok(world.sockets.length > 10);
  gateway.accepts = true;
  await world.advance(60_000);
  await opening;
  assert.equal(channel.freshness.state, "live");
  await channel.close();
});

for (const moment of ["asking", "connecting", "greeting", "waiting"]) {
  test(`closing while ${moment} ends the opening and leaves nothing`, async () => {
    const hanging = () => new Promise(() => undefined);
    const { world, channel, gateway } = made({}, moment === "asking" ? hanging : "t1");
    gateway.silent = moment !== "waiting";
    gateway.accepts = false;
    const opening = watched(channel.open());
    await settle();
    if (moment === "greeting") {
      world.socket.accept();
    }
    await settle();
    assert.equal(opening.result, "waits");
    const closing = channel.close();
    await world.advance(1000);
    await closing;
    assert.equal(opening.result.code, "closed");
    assert.deepEqual([channel.freshness.reason, world.remains], ["closed", NOTHING_LEFT]);
    await channel.close();
  });
}

test("closing from the same breath as opening", async () => {
  const { world, channel } = made();
  const opening = channel.open();
  const closing = channel.close();
  await assert.rejects(opening, { code: "closed" });
  await closing;
  assert.deepEqual(world.remains, NOTHING_LEFT);
});

// --- closing ---

test("closing says goodbye and waits for the answer, but not for ever", async () => {
  const { world, channel, gateway } = await opened({ closeTimeoutMs: 700 });
  gateway.saysGoodbye = false;
  const closing = watched(channel.close());
  assert.deepEqual(world.socket.closed, [1000, ""]);
  await world.advance(699);
  assert.equal(closing.result, "waits");
  await world.advance(1);
  assert.equal(closing.result, "done");
  assert.deepEqual(world.remains, NOTHING_LEFT);
});

test("closing ends what is under way, and what was held can still be read", async () => {
  const { world, channel, gateway } = await opened();
  gateway.silent = true;
  const asked = [channel.ping(), channel.sync(), channel.watch("org:o"), channel.waitFor(99), channel.consume("q")];
  const refused = asked.map((asking) => assert.rejects(asking, { code: "closed" }));
  const iterating = channel.changes();
  await iterating.next();
  const next = iterating.next();
  await channel.close();
  await Promise.all(refused);
  assert.ok((await next).done);
  assert.ok(channel.can("can_use_voice"));
  await assert.rejects(channel.ping(), { code: "closed" });
  await assert.rejects(channel.consume("voice_minutes"), { code: "closed", key: null });
  assert.deepEqual(world.remains, NOTHING_LEFT);
});

test("what was sent and not answered when the channel was closed has its key", async () => {
  const { channel, gateway } = await opened();
  gateway.silent = true;
  const asking = channel.consume("voice_minutes", 1, { key: "mine" });
  await settle();
  const refused = assert.rejects(asking, { code: "closed", key: "mine" });
  await channel.close();
  await refused;
});

test("a final end is told once, with its error, and nothing is held afterwards", async () => {
  const { world, channel } = await opened();
  const ends = [];
  channel.on("ended", (error) => ends.push(error));
  world.socket.end(4500, "");
  await settle();
  assert.ok(ends[0] instanceof Revoked && ends.length === 1);
  assert.deepEqual([channel.document, channel.freshness.reason], [{}, "revoked"]);
  await channel.close();
  await assert.rejects(channel.ping(), { code: "closed" });
  assert.deepEqual([ends.length, world.sockets.length, world.remains], [1, 1, NOTHING_LEFT]);
});

// --- sockets ---

test("a socket that can not be made, and one that fails without a close, are lost connections", async () => {
  const { world, channel } = made({ openTimeoutMs: null, backoffBaseMs: 10 });
  const { WebSocket } = world.environment;
  const failing = [
    () => {
      throw new SyntaxError("not here");
    },
    (...given) => {
      const socket = new WebSocket(...given);
      socket.readyState = 3;
      queueMicrotask(() => socket.fail());
      return socket;
    },
  ];
  world.environment.WebSocket = function (...given) {
    return (failing.shift() ?? ((...rest) => new WebSocket(...rest)))(...given);
  };
  const replaced = new Channel(null, "t1", { environment: world.environment, openTimeoutMs: null, backoffBaseMs: 10 });
  const troubles = [];
  replaced.on("trouble", ({ message }) => troubles.push(message));
  const opening = replaced.open();
  await world.advance(1000);
  await opening;
  assert.deepEqual(troubles, ["not here", "The connection was lost."]);
  await replaced.close();
  await channel.close();
});

test("frames that are no messages end the connection, and the next one is good", async () => {
  for (const frame of ["{", "[]", '{"op":5}', "null", '"' + "x".repeat(100)]) {
    const { world, channel } = await opened({ backoffBaseMs: 10 });
    world.socket.deliver(frame);
    await settle();
    assert.deepEqual([channel.freshness.state, channel.trouble.code], ["offline", "malformed_message"]);
    assert.equal(world.socket.closed.length, 0);
    await world.advance(10_000);
    assert.equal(channel.freshness.state, "live");
    await channel.close();
  }
});

test("a socket that stays open and brings nothing is found by a ping, and left without waiting for it", async () => {
  const { world, channel, gateway } = await opened();
  gateway.silent = true;
  gateway.saysGoodbye = false;
  await world.advance(25_000);
  assert.equal(world.socket.sent.at(-1).op, "ping");
  await world.advance(9_900);
  assert.equal(channel.freshness.state, "live");
  await world.advance(200);
  assert.equal(channel.freshness.state, "offline");
  assert.notEqual(world.socket.closed, null);
  gateway.silent = false;
  await world.advance(500);
  assert.deepEqual([channel.freshness.state, world.sockets.length], ["live", 2]);
  gateway.saysGoodbye = true;
  world.sockets[0].readyState = 1;
  world.sockets[0].deliver({ op: "ended", code: "revoked", message: "Late.", reconnect: "never" });
  await world.advance(1000);
  assert.equal(channel.freshness.state, "live");
  await channel.close();
});

// --- tokens ---

test("the provider is asked before each connection, and told which token was refused", async () => {
  const asked = [];
  const tokens = ["a", "b", "c"];
  const provider = async (refused) => {
    asked.push(refused);
    return tokens.shift();
  };
  const { world, channel, gateway } = await opened({ backoffBaseMs: 10 }, provider);
  world.socket.end();
  gateway.refused.add("b");
  await world.advance(10_000);
  assert.deepEqual(
    [asked, gateway.tokens],
    [
      [null, null, "b"],
      ["a", "b", "c"],
    ],
  );
  assert.equal(channel.freshness.state, "live");
  await channel.close();
});

test("a token is renewed on the live session", async () => {
  const tokens = ["a", "b"];
  const { world, channel, gateway } = await opened({}, () => tokens.shift());
  gateway.expiresAt = "2026-11-21T20:00:00.000Z";
  world.socket.deliver({ op: "expiring", expires_at: "2026-11-21T19:11:00.000Z" });
  await settle();
  assert.deepEqual([gateway.tokens, channel.expiresAt], [["a", "b"], "2026-11-21T20:00:00.000Z"]);
  assert.deepEqual([world.sockets.length, channel.sessionId, channel.freshness.state], [1, "s1", "live"]);
  await channel.close();
});

const failures = {
  "throws at once": () => {
    throw new Error("no token today");
  },
  "throws what is no error": () => {
    throw "a text";
  },
  rejects: async () => Promise.reject(new Error("no token today")),
  "gives nothing": () => undefined,
  "gives a number": () => 7,
  "gives what has spaces": async () => "a token\r\nwith more",
  "gives something that looks like a promise and fails": () => ({ then: (_, fail) => fail(new Error("no")) }),
  hangs: () => new Promise(() => undefined),
};
for (const [what, provider] of Object.entries(failures)) {
  test(`a provider that ${what} is asked again, and once it gives a token all is well`, async () => {
    let good = false;
    const { world, channel } = made({ openTimeoutMs: null }, (refused) => (good ? "t1" : provider(refused)));
    const opening = channel.open();
    await world.advance(60_000);
    assert.equal(channel.trouble.code, "token_unavailable");
    assert.ok(!channel.trouble.message.includes("with more"));
    assert.equal(world.sockets.length, 0);
    good = true;
    await world.advance(70_000);
    await opening;
    assert.equal(channel.freshness.state, "live");
    await channel.close();
    assert.deepEqual(world.remains, NOTHING_LEFT);
  });
}

test("a provider that answers when nobody wants to know any more is not listened to", async () => {
  const given = [];
  const { world, channel, gateway } = made({}, () => new Promise((resolve) => given.push(resolve)));
  const opening = assert.rejects(channel.open(), { code: "closed" });
  await settle();
  await channel.close();
  await opening;
  given.forEach((give) => give("late"));
  await settle();
  assert.deepEqual([world.sockets.length, gateway.tokens, world.remains], [0, [], NOTHING_LEFT]);
});

test("a provider may close the channel", async () => {
  const { world, channel } = made({}, async () => {
    await channel.close();
    return "t1";
  });
  await assert.rejects(channel.open(), { code: "closed" });
  assert.deepEqual([world.sockets.length, world.remains], [0, NOTHING_LEFT]);
});

// --- faults of the program itself ---

test("a fault inside ends the channel instead of leaving half of it", async () => {
  const { world, channel, gateway } = await opened();
  const iterating = channel.changes();
  await iterating.next();
  gateway.silent = true;
  const asked = [channel.waitFor(1000), channel.consume("voice_minutes", 1, { key: "k" })];
  const refused = [
    { code: "closed", key: null },
    { code: "closed", key: "k" },
  ];
  const rejected = asked.map((asking, number) => assert.rejects(asking, refused[number]));
  await settle();
  const ended = assert.rejects(iterating.next(), /no chance/);
  Object.defineProperty(world, "chance", {
    get() {
      throw new Error("no chance");
    },
  });
  world.socket.deliver({ op: "pong", revs: {} });
  await Promise.all([...rejected, ended]);
  assert.match(world.reported[0].message, /no chance/);
  await assert.rejects(channel.ping(), { code: "closed" });
  await channel.close();
  assert.deepEqual(world.remains, NOTHING_LEFT);
});

test("digests that fail end the channel", async () => {
  const { world, channel, gateway } = await opened();
  const ended = new Promise((resolve) => channel.on("ended", resolve));
  world.environment.subtle.digest = async () => Promise.reject(new Error("no digests"));
  gateway.rename("King");
  assert.equal((await ended).message, "no digests");
  await channel.close();
  assert.deepEqual(world.remains, NOTHING_LEFT);
});
