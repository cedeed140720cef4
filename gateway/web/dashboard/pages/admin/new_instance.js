/** Making a server instance. */

import { openDialog } from "../../components/dialog.js";
import { form, refused } from "../../components/field.js";
import { toast } from "../../components/toast.js";
import { instanceFields } from "./instance_fields.js";
import { issuerOf, showConfiguration } from "./instance_secret.js";

/**
 * Asks for what an instance needs, makes one, and shows its first key.
 *
 * @param {import("../../app.js").Context} context
 * @returns {Promise<string | null>} the id; `null`: nothing was made
 */
export async function newInstanceDialog(context) {
  const { api, signal } = context;
  /** @type {{id: string, kid: string, key: string} | null} */
  let made = null;
  const url = issuerOf(api);
  const fields = instanceFields();
  const submit = async () => {
    const wanted = fields.read();
    const unnamed = wanted?.name === "" ? "What is it called?" : null;
    if (wanted === null || refused(fields.name, unnamed)) {
      return;
    }
    made = await api.post("/instances", wanted);
    opened.close();
  };
  const about = { verb: "Make instance", verbTest: "make-instance", label: "New server instance" };
  const opened = openDialog("New server instance", { signal }, form(about, submit, fields.elements));
  fields.name.input.focus();
  await opened.closed;
  return shown(made, url);
}

/**
 * @param {{id: string, kid: string, key: string} | null} made
 * @param {Promise<string>} url
 */
async function shown(made, url) {
  if (made === null) {
    return null;
  }
  const { id } = made;
  await showConfiguration({ url: await url, instance: id, kid: made.kid, secret: made.key });
  toast(`The instance ${id} was made.`);
  return id;
}
