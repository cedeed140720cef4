/**
 * What goes into a `Session` (events) and what comes out of it (effects, for the channel to perform).
 *
 * Both are plain objects with a `type`; effects are frozen. Times are milliseconds unless a name ends in `S`: seconds.
 */

import { diff } from "./document.js";

/** @typedef {import("./document.js").Data} Data */
/** @typedef {import("./errors.js").ChannelError} ChannelError */
/** @typedef {import("./freshness.js").Freshness} Freshness */
/** @typedef {import("./proof.js").Proof} Proof */
/** @typedef {import("./wire.js").SpendingMessage} SpendingMessage */

/** No document. */
export const NOTHING = /** @type {Data} */ (Object.freeze({}));

// --- events ----------------------------------------------------------------------------------------------------------

/** @typedef {{type: "start"}} Start Begin; the first event. */
/** @typedef {{type: "stop"}} Stop The application closes the channel. */
/** @typedef {{type: "tokenGiven", token: string}} TokenGiven The provider's answer to `AskToken`. */
/** @typedef {{type: "tokenFailed", cause: unknown}} TokenFailed The provider failed. */
/**
 * @typedef {{type: "opened", subprotocol: string | null}} Opened The handshake is done; `subprotocol` is what the
 *   gateway chose (null or "": nothing).
 */
/**
 * @typedef {{type: "received", frame: unknown, proof?: Proof | null}} Received A frame came: a string, or what is none
 *   of this protocol. `proof` is the revision of what `Session.candidate` said has to be proved.
 */
/**
 * @typedef {{type: "missed", doc: string}} Missed What came of this document was too much and is dropped: it has to be
 *   asked for again.
 */
/**
 * @typedef {{type: "lost", code: number | null, reason: string}} Lost The connection is gone or could not be made;
 *   `code` is the close code, null where there was none.
 */
/**
 * @typedef {{type: "left"}} Left The page is left, and its socket was given up for that: no trouble, and no failure.
 */
/** @typedef {{type: "tick"}} Tick The deadline has come. */
/**
 * @typedef {{type: "wake", gapMs?: number}} Wake The page is seen again: a connection is tried at once, and a wait that
 *   is nobody's wish is cut short. `gapMs`: so much more time may have passed than the clock says, as when the computer
 *   slept; but it may be that somebody has set the wall's clock.
 */
/** @typedef {{type: "online"}} Online The network is back, for others too: like `wake`, and spread over more time. */
/**
 * @typedef {{type: "offline"}} Offline The system says that there is no network. The connection counts as lost for
 *   those who look, and is kept until a ping fails.
 */
/**
 * @typedef {{type: "watchDocuments", id: string, docs: readonly string[]}} WatchDocuments The application wants these
 *   documents from now on. The result is a `Watched`.
 */
/**
 * @typedef {{type: "unwatchDocuments", id: string, docs: readonly string[]}} UnwatchDocuments The application does not
 *   want these documents any more.
 */
/**
 * @typedef {{type: "syncDocument", id: string, doc: string}} SyncDocument The application wants this document sent
 *   whole again.
 */
/**
 * @typedef {{type: "measurePing", id: string}} MeasurePing The application wants to know how long a ping takes. The
 *   result is in milliseconds.
 */
/**
 * @typedef {{type: "awaitSeq", id: string, seq: number}} AwaitSeq The application waits until its own document is exact
 *   up to this position of the change log. The result is the position reached.
 */
/**
 * @typedef {{type: "spend", id: string, message: SpendingMessage, timeoutMs: number}} Spend The application spends.
 *   `message` is sent until it is answered, over any number of connections, for at most `timeoutMs`; the result is the
 *   gateway's `Reply`. The message has the same `id`.
 */
/** @typedef {{type: "forget", id: string}} Forget The application does not wait for this request any more. */

/** @typedef {WatchDocuments | UnwatchDocuments | SyncDocument | MeasurePing | AwaitSeq | Spend} Request */
/**
 * @typedef {Start | Stop | TokenGiven | TokenFailed | Opened | Received | Missed | Lost | Left | Tick | Wake | Online |
 *   Offline | Forget | Request} Event
 */

// --- effects ---------------------------------------------------------------------------------------------------------

/**
 * @typedef {{type: "askToken", refused: string | null}} AskToken Ask the provider and answer with `tokenGiven` or
 *   `tokenFailed`; an answer that is still awaited is void. `refused` is the token that the gateway just did not take.
 */
/** @typedef {{type: "connect"}} Connect Open a socket and answer with `opened` or `lost`. */
/** @typedef {{type: "send", frame: string}} Send Send this frame. */
/**
 * @typedef {{type: "close", code: number, reason: string}} Close Close the socket, or give up making one; nothing that
 *   it does from now on is an event.
 */
/**
 * @typedef {object} Change A document that the application watches is another one now.
 * @property {"change"} type
 * @property {string} doc its canonical name
 * @property {"snapshot" | "update" | "gone"} kind
 * @property {Data} before the whole document as it was; empty where there was none. Treat it as immutable
 * @property {Data} data the whole document; empty where there is none. Treat it as immutable
 * @property {string} rev its revision
 * @property {number} seq the position in the change log up to which `data` is exact
 * @property {readonly string[]} causes what changed, in the protocol's words
 * @property {Data} patch the merge patch (RFC 7396) that leads from `before` to `data`, made when it is first asked for
 */
/** @typedef {{type: "freshnessChanged", freshness: Freshness}} FreshnessChanged Another state of freshness begins. */
/** @typedef {{type: "resolve", id: string, value: unknown}} Resolve The request `id` succeeded. */
/** @typedef {{type: "reject", id: string, error: ChannelError}} Reject The request `id` failed. */
/**
 * @typedef {{type: "trouble", error: ChannelError}} Trouble Something went wrong that the session deals with by itself:
 *   it waits, asks again, reconnects.
 */
/**
 * @typedef {{type: "stopped", error: ChannelError | null}} Stopped It is over for good; `error` is null when the
 *   application wanted so.
 */

/**
 * @typedef {AskToken | Connect | Send | Close | Change | FreshnessChanged | Resolve | Reject | Trouble |
 *   Stopped} Effect
 */

/**
 * @typedef {object} Watched What became of a request to watch.
 * @property {readonly string[]} docs watched and held now
 * @property {ReadonlyMap<string, ChannelError>} refused why the others are not
 */

/**
 * A document became another one.
 * @param {Omit<Change, "type" | "patch">} fields
 * @returns {Change}
 */
export function change({ doc, kind, before, data, rev, seq, causes }) {
  /** @type {Data | undefined} */
  let patch;
  return Object.freeze({
    type: /** @type {const} */ ("change"),
    doc,
    kind,
    before,
    data,
    rev,
    seq,
    causes,
    get patch() {
      return (patch ??= diff(before, data));
    },
  });
}
