/** What a gateway does with hard quotas, as the protocol describes it: one user's. */

const TIME = "2026-11-21T19:10:00.000Z";

export class Bank {
  seq = 100;
  charges = new Map();
  leases = new Map();
  /** Every message that asked for something. */
  received = [];
  /** Errors for the next ones, one each. */
  refusals = [];

  /** @param {Record<string, number>} limits */
  constructor(limits) {
    this.limits = limits;
  }

  sent(op) {
    return this.received.filter((message) => message.op === op);
  }

  used(quota) {
    const charged = [...this.charges.values()].filter((charge) => charge.quota === quota).map(({ amount }) => amount);
    const committed = [...this.leases.values()]
      .filter((lease) => lease.quota === quota)
      .map((lease) => lease.committed);
    return [...charged, ...committed].reduce((sum, units) => sum + units, 0);
  }

  reserved(quota) {
    const open = [...this.leases.values()].filter((lease) => lease.quota === quota && lease.isOpen);
    return open.reduce((sum, { held }) => sum + held, 0);
  }

  answer(message) {
    this.received.push(message);
    const { id, op } = message;
    if (this.refusals.length > 0) {
      return { op: "error", id, message: "Not now.", ...this.refusals.shift() };
    }
    const lease = this.leases.get(message.lease);
    if (op !== "consume" && op !== "reserve" && lease === undefined) {
      return { op: "error", id, code: "lease_not_found", message: "No such lease." };
    }
    const refusal = this.carryOut(message, lease);
    if (refusal !== null) {
      return { op: "error", id, message: "Refused.", ...refusal };
    }
    return { op: "reply", id, ...this.balance(message.quota ?? lease.quota), ...this.leaseFields(message.lease) };
  }

  carryOut(message, lease) {
    const { op, quota, amount = 0, key } = message;
    const takes = (op === "consume" && !this.charges.has(key)) || (op === "reserve" && lease === undefined);
    if (takes && !(quota in this.limits)) {
      return { code: "not_found" };
    }
    if (takes && amount > this.remaining(quota)) {
      return { code: "quota_exceeded", quota, remaining: this.remaining(quota), resets_at: TIME };
    }
    if (op === "consume" && takes) {
      this.charges.set(key, { quota, amount });
    } else if (op === "reserve" && takes) {
      this.leases.set(message.lease, { quota, held: amount, isOpen: true, committed: 0, added: new Set() });
    } else if (op === "extend" && !lease.isOpen) {
      return { code: "lease_expired" };
    } else if (op === "extend" && amount > 0 && !lease.added.has(key)) {
      lease.added.add(key);
      lease.held += amount;
    } else if (op === "commit" || op === "release") {
      Object.assign(lease, { isOpen: false, committed: lease.isOpen ? amount : lease.committed });
    }
    this.seq += takes ? 1 : 0;
    return null;
  }

  remaining(quota) {
    return this.limits[quota] - this.used(quota) - this.reserved(quota);
  }

  balance(quota) {
    const [used, reserved, remaining] = [this.used(quota), this.reserved(quota), this.remaining(quota)];
    const share = (used + reserved) / this.limits[quota];
    const level = share >= 1 ? "exhausted" : share >= 0.95 ? "critical" : share >= 0.8 ? "low" : "ok";
    return {
      quota,
      limit: this.limits[quota],
      used,
      reserved,
      remaining,
      period: "month",
      hard: true,
      level,
      seq: this.seq,
    };
  }

  leaseFields(name) {
    const lease = this.leases.get(name);
    return lease === undefined ? {} : { lease: name, held: lease.held, expires_at: TIME };
  }
}
