/** Making a server instance. */

import { openDialog } from "../../components/dialog.js";
import { form, refused } from "../../components/field.js";
import { toast } from "../../components/toast.js";
import { instanceFields } from "./instance_fields.js";
import { issuerOf, showConfiguration } from "./instance_secret.js";

/**
 * Asks for what an instance needs, makes one, and shows its first key, also when the dialog was closed meanwhile: the
 * key can not be had again.
 *
 * @param {import("../../app.js").Context} context
 * @param {(id: string) => void} made called when the key was seen
 */
export function openNewInstance({ api, signal }, made) {
  const url = issuerOf(api);
  const fields = instanceFields();
  const submit = async () => {
    const wanted = fields.read();
    const unnamed = wanted?.name === "" ? "What is it called?" : null;
    if (wanted === null || refused(fields.name, unnamed)) {
      return;
    }
    const { id, kid, key } = await api.post("/instances", wanted);
    opened.close();
    await showConfiguration({ url: await url, instance: id, kid, secret: key });
    toast(`The instance ${id} was made.`);
    made(id);
  };
  const about = { verb: "Make instance", verbTest: "make-instance", label: "New server instance" };
  const opened = openDialog("New server instance", { signal }, form(about, submit, fields.elements));
  fields.name.input.focus();
}
