/** What the tabs of one browser tell each other of their session. */

/**
 * `leaving`: somebody is about to sign out; `staying`: that failed.
 *
 * @typedef {{kind: "signed-in" | "leaving" | "staying" | "signed-out"} | {kind: "renewed", csrf: string}} Message
 */

export class Tabs {
  /** @param {(message: Message) => void} heard called with what another tab told */
  constructor(heard) {
    this._channel = typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel("gateway-session");
    this._channel?.addEventListener("message", (event) => heard(event.data));
  }

  /** @param {Message} message */
  tell(message) {
    this._channel?.postMessage(message);
  }
}
