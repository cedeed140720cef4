/** The secret of an instance's key, shown once: when the dialog is closed, nothing has it any more. */

import { h } from "../../dom.js";
import { showOnce } from "../../components/dialog.js";
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
 * Shows what an application has to be told, as the section of TOML that it reads.
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
  const warning = note("warning", "Copy it now: the secret is not shown again, and nobody can look it up.");
  const text = h("p", null, "This is the file that the application reads, ", h("code", null, "gateway.toml"), ".");
  await showOnce("The new key", shown, { copy: "Copy configuration", test: "instance-secret" }, warning, text);
}
