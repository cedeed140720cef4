/**
 * Replays the gateway's side of a golden transcript against a session, and checks the client's side.
 *
 * It runs wherever the SDK runs: what it needs comes as arguments. What is written for MessagePack is replayed as JSON;
 * where the transcript shows the token in a header, it travels in the first message, as it does for everybody here.
 */

const PLACEHOLDER = /^<(text|time|number|seq|token|any)(?::([a-z0-9_]+))?>$/;
const TIME = "2026-11-21T20:00:00.000Z";
// What the placeholders of the gateway's messages stand for here.
const NUMBERS = { heartbeat: 25, auth_timeout: 10 };
const SPENDING = ["consume", "reserve", "extend", "commit", "release"];

/**
 * @param {string} text a whole file
 * @returns {{header: any, lines: any[]}} the first line and all others
 */
export function parse(text) {
  const [header, ...lines] = text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  return { header, lines };
}

/**
 * Why a transcript is not replayed here; null when it is.
 * @param {{header: any, lines: any[]}} transcript
 */
export function exemption({ header, lines }) {
  if (!header.replay.includes("sdk")) {
    return "no SDK replays it";
  }
  return lines.some((line) => line.do === "refuse") ? "a page does not see why a handshake was refused" : null;
}

/** One transcript and one session. */
export class Replay {
  /**
   * @param {{header: any, lines: any[]}} transcript
   * @param {{Session: any, makeOptions: any, revision: any}} sdk
   * @param {SubtleCrypto} subtle
   */
  constructor({ header, lines }, sdk, subtle) {
    const handshake = lines.find((line) => line.do === "connect");
    const watch = handshake.watch.length > 0 ? handshake.watch : ["self"];
    this.session = new sdk.Session(sdk.makeOptions({ watch, pingIntervalMs: 1e9 }));
    this.sdk = sdk;
    this.subtle = subtle;
    this.lines = lines;
    this.provider = this.concrete(`<token:${Object.keys(header.tokens)[0]}>`);
    this.now = 0;
    this.sent = [];
    this.connects = 0;
    this.closes = [];
    this.stopped = [];
    this.told = new Map();
    this.bound = new Map();
    this.inHeader = null;
  }

  async run() {
    this.feed({ type: "start" });
    for (const line of this.lines) {
      this.advance(line.at);
      if (line.from === "client") {
        this.client(line);
        continue;
      }
      check(this.sent.length === 0, `sent before ${show(line)}: ${show(this.sent)}`);
      check(this.connects === 0 || line.do === "connect", `connected before ${show(line)}`);
      if (line.from === "server") {
        await this.receive(this.concrete(line.message));
      } else {
        this.direct(line);
      }
    }
    check(this.sent.length === 0, `sent at the end: ${show(this.sent)}`);
  }

  // --- the session ---

  feed(event) {
    for (const effect of this.session.handle(event, this.now, 0.5)) {
      this.perform(effect);
    }
  }

  perform(effect) {
    switch (effect.type) {
      case "askToken":
        return this.feed({ type: "tokenGiven", token: this.provider });
      case "send":
        return this.sent.push(JSON.parse(effect.frame));
      case "connect":
        return (this.connects += 1);
      case "close":
        return this.closes.push(effect);
      case "stopped":
        return this.stopped.push(effect);
      case "resolve":
        return this.told.set(effect.id, {});
      case "reject": {
        const { code, key } = effect.error;
        return this.told.set(effect.id, key === null ? { code } : { code, key });
      }
    }
  }

  async receive(message) {
    const frame = JSON.stringify(message);
    let proof = null;
    for (let wanted = this.session.candidate(frame); wanted !== null; wanted = this.session.candidate(frame, proof)) {
      proof = { candidate: wanted, rev: await this.sdk.revision(wanted.text, this.subtle) };
    }
    this.feed({ type: "received", frame, proof });
    if (message.op === "hello" && this.inHeader !== null) {
      const { token, watch } = this.inHeader;
      const { last_end: _, ...auth } = this.sent.shift() ?? {};
      same(auth, { op: "auth", token, watch });
      this.inHeader = null;
    }
  }

  advance(to) {
    while (this.session.deadline <= to) {
      this.now = this.session.deadline;
      this.feed({ type: "tick" });
    }
    this.now = to;
  }

  // --- lines ---

  client({ message, by }) {
    if (by === "raw") {
      return;
    }
    if (by === "app") {
      this.ask(message);
    }
    check(this.sent.length > 0, `not sent: ${show(message)}`);
    this.match(message, this.sent.shift());
  }

  ask(message) {
    const { op, id, docs, doc } = message;
    switch (op) {
      case "watch":
        return this.feed({ type: "watchDocuments", id, docs });
      case "unwatch":
        return this.feed({ type: "unwatchDocuments", id, docs });
      case "sync":
        return this.feed({ type: "syncDocument", id, doc });
      case "ping":
        return this.feed({ type: "measurePing", id });
    }
    check(SPENDING.includes(op), `no application asks for ${op}`);
    this.feed({ type: "spend", id, message, timeoutMs: 30_000 });
  }

  direct(line) {
    switch (line.do) {
      case "connect":
        return this.connect(line);
      case "close":
        return this.feed({ type: "lost", code: line.code, reason: "" });
      case "lose":
        return this.feed({ type: "lost", code: null, reason: "" });
      case "bye":
        this.closes.length = 0;
        this.feed({ type: "stop" });
        return same(this.closes, [{ type: "close", code: 1000, reason: "" }]);
      case "provider":
        return (this.provider = this.concrete(line.token));
      case "holds":
        same(Object.fromEntries(this.session.replica.changes().map(({ doc, rev }) => [doc, rev])), line.docs);
        return same(this.session.freshness(this.now).state, line.freshness);
      case "stopped":
        same(
          this.stopped.map(({ error }) => error?.code),
          [line.code],
        );
        return;
      case "told":
        return this.checkTold(line);
      case "write":
      case "store":
      case "drain":
        return;
    }
    throw new Error(`unknown line: ${show(line)}`);
  }

  connect({ authorization, watch }) {
    same(this.connects, 1);
    this.connects = 0;
    this.inHeader = authorization === undefined ? null : { token: this.concrete(authorization), watch };
    this.feed({ type: "opened", subprotocol: "gateway.v1+json" });
  }

  checkTold({ id, code, key }) {
    const told = this.told.get(id);
    this.told.delete(id);
    same(told, JSON.parse(JSON.stringify({ code, key })));
  }

  // --- placeholders ---

  /** What the gateway sends where a placeholder is written. */
  concrete(value) {
    if (Array.isArray(value)) {
      return value.map((inner) => this.concrete(inner));
    }
    if (value !== null && typeof value === "object") {
      const whole = String(value.seq).startsWith("<number") ? { seq: 100 } : {};
      const fields = Object.entries({ ...value, ...whole });
      return Object.fromEntries(fields.map(([name, inner]) => [name, this.concrete(inner)]));
    }
    const [, kind, name] = (typeof value === "string" && PLACEHOLDER.exec(value)) || [];
    switch (kind) {
      case undefined:
        return value;
      case "time":
        return TIME;
      case "number":
        return NUMBERS[name] ?? 0.5;
      case "seq":
        return 100 + Number(name);
      case "token":
        return `token-${name}`;
      case "any":
        return [];
    }
    return this.bound.get(value) ?? `some-${name}`;
  }

  /** Compare what the client sent; a placeholder for a text is bound by its first use. */
  match(expected, actual) {
    if (expected !== null && typeof expected === "object" && !Array.isArray(expected)) {
      same(Object.keys(actual).sort(), Object.keys(expected).sort());
      for (const [name, value] of Object.entries(expected)) {
        this.match(value, actual[name]);
      }
    } else if (typeof expected === "string" && expected.startsWith("<text")) {
      check(typeof actual === "string" && actual !== "", `no text: ${show(actual)}`);
      this.bound.set(expected, this.bound.get(expected) ?? actual);
      same(actual, this.bound.get(expected));
    } else {
      same(actual, this.concrete(expected));
    }
  }
}

const show = (value) => JSON.stringify(value);

function check(holds, message) {
  if (!holds) {
    throw new Error(message);
  }
}

function same(actual, expected) {
  check(sorted(actual) === sorted(expected), `${show(actual)} instead of ${show(expected)}`);
}

/** JSON with the names in order. */
function sorted(value) {
  return JSON.stringify(value, (_, inner) =>
    inner !== null && typeof inner === "object" && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([one], [other]) => (one < other ? -1 : 1)))
      : inner,
  );
}
