export { Channel } from "./channel.js";
export { Lease } from "./lease.js";
export { Changes } from "./listeners.js";
export { Meter } from "./meter.js";
export { ChannelError, BadRequest, UnknownOp, NotFound, Forbidden, RateLimited, Unavailable, QuotaExceeded, Conflict, LeaseNotFound, LeaseExpired, MeterStopped, TooManyDocuments, AuthFailed, TokenExpired, TokenUnavailable, Disconnected, RequestTimeout, EpochChanged, MalformedMessage, Revoked, PrincipalChanged, BadFrame, TooLarge, NotAuthenticated } from "./errors.js";
