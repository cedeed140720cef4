/**
 * One channel in a process of its own, driven by JSON lines: `{id, call, args}` on its standard input is answered by
 * `{id, value}` or `{id, error}`, and what happens by itself is told as `{told, ...}`.
 */

import { createInterface } from "node:readline";

import { Channel, Meter } from "../../../../client_sdk/js/gateway.js";

/** @type {Channel} */
let channel;
/** @type {any} */
let lease;
let asked = 0;

const write = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);

const described = (error) =>
  error && { name: error.name, code: error.code, message: error.message, key: error.key, remaining: error.remaining };

const leased = () => ({ name: lease.name, held: lease.held, used: lease.used, expiresAt: lease.expiresAt });

/** The tokens in turn, the last one again and again. */
const provider = (tokens) => async () => {
  asked += 1;
  return tokens.length > 1 ? tokens.shift() : tokens[0];
};

const calls = {
  open: async (server, tokens, options) => {
    channel = new Channel(server, provider(tokens), options);
    channel.on("change", ({ kind, doc, seq, rev, causes, patch }) =>
      write({ told: "change", kind, doc, seq, rev, causes, patch }),
    );
    channel.on("freshness", ({ state, reason }) => write({ told: "freshness", state, reason }));
    channel.on("trouble", (error) => write({ told: "trouble", ...described(error) }));
    channel.on("ended", (error) => write({ told: "ended", error: described(error) }));
    await channel.open();
  },
  close: () => channel.close(),
  state: () => {
    const { documents, document, seq, freshness, principal, sessionId, expiresAt, mismatches, verified } = channel;
    const own = { principal, sessionId, expiresAt, mismatches, verified, trouble: described(channel.trouble) };
    return { documents, document, seq, freshness, asked, permissions: [...channel.permissions], ...own };
  },
  watch: async (docs) => {
    const { docs: watched, refused } = await channel.watch(docs);
    return { docs: watched, refused: Object.fromEntries([...refused].map(([doc, error]) => [doc, described(error)])) };
  },
  ping: () => channel.ping(),
  sync: () => channel.sync(),
  waitFor: (seq) => channel.waitFor(seq, { signal: AbortSignal.timeout(20_000) }),
  consume: (quota, amount, options) => channel.consume(quota, amount, options),
  lease: async (quota, amount, options) => {
    lease = await channel.lease(quota, amount, options);
    return leased();
  },
  use: (units) => {
    lease.use(units);
    return leased();
  },
  leased: async () => leased(),
  commit: () => lease.commit(),
  meter: async (quota, options) => {
    const meter = new Meter(channel, quota, options);
    const stopped = await meter.run((signal) => new Promise((resolve) => (signal.onabort = resolve))).catch((e) => e);
    return { reason: stopped.reason, units: meter.units };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { id, call, args } = JSON.parse(line);
  (async () => calls[call](...args))().then(
    (value) => write({ id, value }),
    (error) => write({ id, error: described(error) }),
  );
}
