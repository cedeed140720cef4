/** Drives a session by hand: a clock that stands still, and messages as plain objects. */

import { createHash } from "node:crypto";

import { canonical } from "../../../../client_sdk/js/document.js";
import { makeOptions } from "../../../../client_sdk/js/options.js";
import { Session } from "../../../../client_sdk/js/session.js";

export const SELF = "user:u_7f3k";
export const ADA = {
  identity: { id: "u_7f3k", username: "ada", name: "Ada Lovelace", plan: "pro", status: "active" },
  permissions: { can_use_voice: true, can_use_sms: true },
  quotas: { voice_minutes: { limit: 500, used: 12, reserved: 5, remaining: 483, level: "ok" } },
  organizations: {},
};
export const LESS = { ...ADA, permissions: { can_use_voice: true } };
export const HELLO = {
  op: "hello",
  protocol: 1,
  node: "n1",
  epoch: "e1",
  server_time: "2026-11-21T20:00:00.000Z",
  heartbeat_s: 25,
  auth_timeout_s: 10,
  max_frame_bytes: 16384,
  features: ["resume"],
};

const digest = (text) => createHash("sha256").update(text).digest("hex").slice(0, 16);

export const revisionOf = (data) => digest(canonical(data));

export const snapshot = (doc, data, seq) => ({ op: "snapshot", doc, rev: revisionOf(data), seq, data });

/** From ADA to LESS. */
export const update = (seq, changed = {}) => ({
  op: "update",
  doc: SELF,
  from: revisionOf(ADA),
  rev: revisionOf(LESS),
  seq,
  patch: { permissions: { can_use_sms: null } },
  causes: ["permissions"],
  ...changed,
});

/** A session, its time, and everything it wanted so far. */
export class Driver {
  constructor({ chance = 0.5, ...options } = {}) {
    this.session = new Session(makeOptions(options));
    this.now = 1_000_000;
    this.chance = chance;
    this.effects = [];
  }

  feed(event) {
    const effects = this.session.handle(event, this.now, this.chance);
    this.effects.push(...effects);
    return effects;
  }

  /** The gateway sends these; what came of all of them. */
  server(...messages) {
    return messages.flatMap((message) => this.frame(JSON.stringify(message)));
  }

  frame(frame) {
    let proof = null;
    for (let wanted = this.session.candidate(frame); wanted !== null; wanted = this.session.candidate(frame, proof)) {
      proof = { candidate: wanted, rev: digest(wanted.text) };
    }
    return this.feed({ type: "received", frame, proof });
  }

  /** Let time pass until the next deadline. */
  untilDeadline() {
    this.now = this.session.deadline;
    return this.feed({ type: "tick" });
  }

  /** From where it waits or begins to an open socket. */
  connect(token = "t1") {
    const asked = this.session.deadline < Infinity ? this.untilDeadline() : this.feed({ type: "start" });
    only("askToken", asked);
    only("connect", this.feed({ type: "tokenGiven", token }));
    this.feed({ type: "opened", subprotocol: "gateway.v1+json" });
  }

  greet({ session = "s1", principal = SELF, epoch = "e1", ...ready } = {}) {
    return this.server({ ...HELLO, epoch }, { op: "ready", session, principal, ...ready });
  }

  /** Connected, with the own document held. */
  live(data = ADA, seq = 10) {
    this.connect();
    this.greet();
    this.server(snapshot(SELF, data, seq));
    this.effects.length = 0;
    return this;
  }

  lose() {
    return this.feed({ type: "lost", code: null, reason: "" });
  }

  data(doc = SELF) {
    return this.session.replica.documents()[doc];
  }

  get freshness() {
    return this.session.freshness(this.now);
  }
}

export const every = (type, effects) => effects.filter((effect) => effect.type === type);

/** The one effect of this kind. */
export function only(type, effects) {
  const found = every(type, effects);
  if (found.length !== 1) {
    throw new Error(`${found.length} effects of the type ${type} among ${JSON.stringify(effects)}`);
  }
  return found[0];
}

/** The messages that were sent. */
export const sent = (effects) => every("send", effects).map(({ frame }) => JSON.parse(frame));
