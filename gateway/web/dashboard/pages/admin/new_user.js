/** Making a user. */

import { openDialog } from "../../components/dialog.js";
import { choiceField, form, passwordField, textField } from "../../components/field.js";
import { toast } from "../../components/toast.js";

/**
 * Asks for what a user needs, and makes one.
 *
 * @param {import("../../app.js").Context} context
 * @returns {Promise<string | null>} the id; `null`: nothing was made
 */
export async function newUserDialog({ api, signal }) {
  const plans = await api.all("/plans", { signal }).catch(() => []);
  /** @type {string | null} */
  let made = null;
  const username = textField("User name", { autocapitalize: "none", spellcheck: "false" });
  const name = textField("Name", {});
  const email = textField("E-mail", { type: "email" });
  const plan = choiceField(
    "Plan",
    plans.map((one) => /** @type {[string, string]} */ ([one.id, one.name || one.id])),
  );
  const hint = "Without one nobody signs in as this user until an administrator sets one.";
  const password = passwordField("Password", { autocomplete: "new-password" }, { hint });
  const submit = async () => {
    if (username.input.value.trim() === "") {
      username.complain("A user needs a name.");
      username.input.focus();
      return;
    }
    const body = {
      username: username.input.value.trim(),
      name: name.input.value.trim(),
      email: email.input.value.trim() || null,
      plan: plan.input.value,
      password: password.input.value || null,
    };
    made = (await api.post("/auth/register", body)).id;
    toast(`${body.username} was made.`);
    opened.close();
  };
  const fields = [username, name, email, plan, password].map((field) => field.element);
  const opened = openDialog(
    "New user",
    { signal },
    form({ verb: "Make user", verbTest: "make-user" }, submit, ...fields),
  );
  username.input.focus();
  await opened.closed;
  return made;
}
