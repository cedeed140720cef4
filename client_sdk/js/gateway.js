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
