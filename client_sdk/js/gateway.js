/// <reference lib="esnext.disposable" preserve="true" />

/**
 * The gateway's SDK for browsers and Node: live documents over one WebSocket that comes back by itself.
 *
 *     import { Channel } from "/sdk/gateway.js";
 */

export { Channel } from "./channel.js";
export {
  ChannelError,
  BadRequest,
  UnknownOp,
  NotFound,
  Forbidden,
  RateLimited,
  Unavailable,
  QuotaExceeded,
  Conflict,
  LeaseNotFound,
  LeaseExpired,
  MeterStopped,
  TooManyDocuments,
  AuthFailed,
  TokenExpired,
  TokenUnavailable,
  Disconnected,
  RequestTimeout,
  EpochChanged,
  MalformedMessage,
  Revoked,
  PrincipalChanged,
  BadFrame,
  TooLarge,
  NotAuthenticated,
} from "./errors.js";
export { Lease } from "./lease.js";
export { Changes } from "./listeners.js";
export { Meter } from "./meter.js";

/** @typedef {import("./channel.js").ChannelOptions} ChannelOptions */
/** @typedef {import("./channel.js").ConsumeOptions} ConsumeOptions */
/** @typedef {import("./document.js").Data} Data */
/** @typedef {import("./environment.js").SocketClass} SocketClass */
/** @typedef {import("./errors.js").StopReason} StopReason */
/** @typedef {import("./events.js").Change} Change */
/** @typedef {import("./events.js").Watched} Watched */
/** @typedef {import("./freshness.js").Freshness} Freshness */
/** @typedef {import("./freshness.js").FreshnessState} FreshnessState */
/** @typedef {import("./lease.js").LeaseOptions} LeaseOptions */
/** @typedef {import("./listeners.js").News} News */
/** @typedef {import("./meter.js").MeterOptions} MeterOptions */
/** @typedef {import("./options.js").ClientInfo} ClientInfo */
/** @typedef {import("./provider.js").TokenProvider} TokenProvider */
/** @typedef {import("./quota.js").Balance} Balance */
/** @typedef {import("./quota.js").Quota} Quota */
/** @typedef {import("./quota.js").Quotas} Quotas */
