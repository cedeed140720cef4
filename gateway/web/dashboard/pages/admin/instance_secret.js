/** The secret of an instance's key, shown once: when the dialog is closed, nothing has it any more. */

import { h } from "../../dom.js";
import { button, copyButton } from "../../components/button.js";
import { openDialog } from "../../components/dialog.js";
import { note } from "../../components/layout.js";

/**
 * The gateway's public address, at which instances find it; where it can not be had, that of this page.
 *
 * @param {import("../../api.js").Api} api
 * @returns {Promise<string>}
 */
export async function issuerOf(api) {
  const metadata = await api.get("/.well-known/oauth-authorization-server").catch(() => null);
  return typeof metadata?.issuer === "string" ? metadata.issuer : location.origin;
}

/**
 * Shows what an application has to be told, as the section of TOML that it reads, until somebody closes it. It stays
 * when the page below is left: what is shown once is not to be lost.
 *
 * @param {{url: string, instance: string, kid: string, secret: string}} told
 */
export async function showConfiguration(told) {
  // A string of JSON is one of TOML.
  const lines = Object.entries(told).map(([name, value]) => `${name} = ${JSON.stringify(value)}`);
  const shown = h(
    "pre",
    { class: "secret", tabindex: "0", role: "group", "aria-label": "The configuration", test: "instance-secret" },
    ["[gateway]", ...lines].join("\n"),
  );
  const copy = copyButton(() => shown.textContent ?? "", "Copy configuration");
  const done = button("Done", () => opened.close(), { kind: "primary", test: "instance-secret-done" });
  const warning = note("warning", "Copy it now: the secret is not shown again, and nobody can look it up.");
  const text = h("p", null, "This is the file that the application reads, ", h("code", null, "gateway.toml"), ".");
  const opened = openDialog("The new key", { foot: [copy, done] }, warning, text, shown);
  await opened.closed;
  shown.textContent = "";
}
