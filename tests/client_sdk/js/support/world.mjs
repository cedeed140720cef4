/** A world for a channel: time that moves when a test says so, a page, and sockets that lead to a scripted gateway. */

import { createHash } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

import { Bank } from "./bank.mjs";
import { canonical, diff } from "../../../../client_sdk/js/document.js";
import { Channel } from "../../../../client_sdk/js/gateway.js";

export const ADA = "user:u_ada";
setFlagsFromString("--expose-gc");
/** Forget at once what nobody holds. */
export const collectGarbage = runInNewContext("gc");

/** @param {object} data */
export function revisionOf(data) {
  return createHash("sha256").update(canonical(data)).digest("hex").slice(0, 16);
}

export function adasDocument() {
  return {
    identity: { id: "u_ada", name: "Ada" },
    permissions: { can_use_voice: true, can_use_sms: true },
    quotas: { voice_minutes: { limit: 100, used: 12, remaining: 88, period: "month", hard: true, level: "ok" } },
  };
}

/** What a page's objects are: it counts who listens. */
class Target extends EventTarget {
  listeners = 0;
  visibilityState = "visible";

  addEventListener(...given) {
    this.listeners += 1;
    super.addEventListener(...given);
  }

  removeEventListener(...given) {
    this.listeners -= 1;
    super.removeEventListener(...given);
  }

  tell(name) {
    this.dispatchEvent(new Event(name));
  }
}

/** A WebSocket whose other end is the world's gateway. */
class Socket extends EventTarget {
  readyState = 0;
  protocol = "";
  listeners = 0;
  /** @type {any[]} */
  sent = [];
  /** @type {any[] | null} */
  closed = null;

  constructor(world, url, protocols) {
    super();
    this.world = world;
    this.url = url;
    this.protocols = protocols;
    world.sockets.push(this);
  }

  addEventListener(...given) {
    this.listeners += 1;
    super.addEventListener(...given);
  }

  removeEventListener(...given) {
    this.listeners -= 1;
    super.removeEventListener(...given);
  }

  send(text) {
    if (this.readyState !== 1) {
      throw new Error("not open");
    }
    const message = JSON.parse(text);
    this.sent.push(message);
    this.world.gateway.hear(this, message);
  }

  close(...given) {
    if (given.length > 0 && given[0] !== 1000 && !(given[0] >= 3000 && given[0] <= 4999)) {
      throw new Error("InvalidAccessError");
    }
    this.closed = given;
    this.readyState = 2;
    if (this.world.gateway.saysGoodbye) {
      queueMicrotask(() => this.end(1000, ""));
    }
  }

  // --- what the other end does ---

  accept(protocol = "gateway.v1+json") {
    this.readyState = 1;
    this.protocol = protocol;
    this.dispatchEvent(new Event("open"));
  }

  deliver(message) {
    if (this.readyState === 1) {
      const data = typeof message === "string" ? message : JSON.stringify(message);
      this.dispatchEvent(Object.assign(new Event("message"), { data }));
    }
  }

  end(code = 1006, reason = "") {
    if (this.readyState < 3) {
      this.readyState = 3;
      this.dispatchEvent(Object.assign(new Event("close"), { code, reason }));
    }
  }

  fail() {
    this.readyState = 3;
    this.dispatchEvent(new Event("error"));
  }
}

/** The gateway's side: one user, Ada, and her documents. */
class Gateway {
  accepts = true; // handshakes
  silent = false; // hears and says nothing
  saysGoodbye = true;
  seq = 5;
  bank = new Bank({ voice_minutes: 100 });
  tokens = [];
  refused = new Set();
  expiresAt = null;
  documents = { [ADA]: adasDocument() };

  constructor(world) {
    this.world = world;
  }

  greet(socket) {
    if (this.silent || socket.readyState > 0) {
      return;
    }
    if (!this.accepts) {
      socket.fail();
      socket.end();
      return;
    }
    socket.accept();
    socket.deliver({
      ...{ op: "hello", protocol: 1, node: "n", epoch: "e", server_time: "2026-11-21T19:10:00.000Z", features: [] },
      ...{ heartbeat_s: 25, auth_timeout_s: 10, max_frame_bytes: 16_384 },
    });
  }

  hear(socket, message) {
    if (this.silent) {
      return;
    }
    queueMicrotask(() => this.answer(socket, message));
  }

  answer(socket, message) {
    const { op, id } = message;
    if (op === "auth") {
      this.authenticate(socket, message);
    } else if (op === "ping") {
      const revs = Object.fromEntries(Object.entries(this.documents).map(([doc, data]) => [doc, revisionOf(data)]));
      socket.deliver({ op: "pong", id, server_time: "2026-11-21T19:10:00.000Z", revs });
    } else if (op === "watch") {
      this.watch(socket, message.docs, id);
    } else if (op === "unwatch" || op === "sync") {
      socket.deliver({ op: "reply", id });
      if (op === "sync") {
        this.send(socket, message.doc);
      }
    } else {
      const answer = this.bank.answer(message);
      socket.deliver(answer);
    }
  }

  authenticate(socket, { token, watch, id }) {
    this.tokens.push(token);
    if (this.refused.has(token)) {
      socket.deliver({ op: "ended", code: "auth_failed", message: "No.", reconnect: "new_credential" });
      socket.end(4102);
      return;
    }
    const session = `s${this.world.sockets.indexOf(socket) + 1}`;
    socket.deliver({ op: "ready", session, principal: ADA, expires_at: this.expiresAt ?? undefined, id });
    if (watch !== undefined) {
      this.watch(socket, watch);
    }
  }

  watch(socket, entries, id = undefined) {
    const held = entries.map((entry) => entry.split("@"));
    const name = (doc) => (doc === "self" ? ADA : doc);
    const [known, unknown] = [true, false].map((is) => held.filter(([doc]) => name(doc) in this.documents === is));
    unknown.forEach(([doc]) => socket.deliver({ op: "error", id, code: "not_found", message: "No such.", doc }));
    if (id !== undefined && known.length > 0) {
      socket.deliver({ op: "reply", id, docs: known.map(([doc]) => name(doc)) });
    }
    known.forEach(([doc, rev]) => this.send(socket, name(doc), rev));
  }

  send(socket, doc, rev = undefined) {
    const data = this.documents[doc];
    const fields = { doc, rev: revisionOf(data), seq: this.seq };
    socket.deliver(rev === fields.rev ? { op: "current", ...fields } : { op: "snapshot", ...fields, data });
  }

  /** Change a document by what `edit` does to it, and tell whoever is connected. */
  change(edit, causes = ["profile"], doc = ADA) {
    const before = this.documents[doc];
    const data = structuredClone(before);
    edit(data);
    this.documents[doc] = data;
    this.seq += 1;
    const update = { op: "update", doc, from: revisionOf(before), rev: revisionOf(data), seq: this.seq };
    const open = this.world.sockets.filter((socket) => socket.readyState === 1);
    if (!this.silent) {
      open.forEach((socket) => socket.deliver({ ...update, patch: diff(before, data), causes }));
    }
    return this.seq;
  }

  rename(name) {
    return this.change((data) => (data.identity.name = name));
  }
}

/** Everything that a channel is given. */
export class World {
  time = 1_000_000;
  wall = Date.parse("2026-11-21T19:10:00Z");
  chance = 0.5;
  /** Timers ring at multiples of this, as in a page that is hidden; 0: when they are due. */
  throttleMs = 0;
  timers = new Map();
  #count = 0;
  sockets = [];
  reported = [];
  document = new Target();
  window = new Target();

  constructor() {
    this.gateway = new Gateway(this);
    const world = this;
    this.environment = {
      WebSocket: class extends Socket {
        constructor(url, protocols) {
          super(world, url, protocols);
          queueMicrotask(() => world.gateway.greet(this));
        }
      },
      now: () => this.time,
      wallClock: () => this.wall,
      setTimeout: (callback, delayMs) => {
        this.#count += 1;
        const at = this.time + Math.max(0, delayMs);
        const ringsAt = this.throttleMs === 0 ? at : Math.ceil(at / this.throttleMs) * this.throttleMs;
        this.timers.set(this.#count, { at: ringsAt, callback });
        return this.#count;
      },
      clearTimeout: (timer) => this.timers.delete(timer),
      random: () => this.chance,
      subtle: { digest: async (_, bytes) => new Uint8Array(createHash("sha256").update(bytes).digest()).buffer },
      document: this.document,
      window: this.window,
      origin: "http://gateway.example",
      report: (error) => this.reported.push(error),
    };
  }

  get socket() {
    return this.sockets.at(-1);
  }

  /** Milliseconds until the next timer. */
  get next() {
    return Math.min(...[...this.timers.values()].map(({ at }) => at - this.time));
  }

  /** Let time pass; what falls due is called at its time. */
  async advance(milliseconds) {
    const until = this.time + milliseconds;
    await settle();
    while (this.next <= until - this.time) {
      const [timer, { at, callback }] = [...this.timers].reduce((one, other) =>
        other[1].at < one[1].at ? other : one,
      );
      this.timers.delete(timer);
      this.wall += Math.max(0, at - this.time);
      this.time = Math.max(this.time, at);
      callback();
      await settle();
    }
    this.wall += until - this.time;
    this.time = until;
    await settle();
  }

  /** Time passes and no timer is called: the page is throttled, or the computer sleeps and the steady clock goes on. */
  sleep(milliseconds) {
    this.time += milliseconds;
    this.wall += milliseconds;
  }

  /** The computer sleeps and the steady clock stands still; or somebody sets the wall's clock. */
  setWall(milliseconds) {
    this.wall += milliseconds;
  }

  /** What is left of channels that should be gone. */
  get remains() {
    const listening = this.sockets.reduce((sum, socket) => sum + socket.listeners, 0);
    return { timers: this.timers.size, page: this.document.listeners + this.window.listeners, sockets: listening };
  }
}

/** For noticing soon, and no ping that nobody asked for. */
export const QUICK = { backoffBaseMs: 10, backoffCapMs: 500, pingIntervalMs: 1e9 };

/** A channel that is not open yet, and its world. */
export function made(options = {}, token = "t1") {
  const world = new World();
  const channel = new Channel(null, token, { environment: world.environment, ...options });
  return { world, channel, gateway: world.gateway, bank: world.gateway.bank };
}

/** A channel that is open, and its world. */
export async function opened(options = {}, token = "t1") {
  const parts = made(options, token);
  await parts.channel.open();
  return parts;
}

/** Let everything happen that waits for nothing. */
export async function settle() {
  for (let turn = 0; turn < 3; turn += 1) {
    await setImmediate();
  }
}
