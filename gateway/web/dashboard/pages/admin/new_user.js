/** Making a user. */

import { openDialog } from "../../components/dialog.js";
import { nameProblem } from "../../names.js";
import { form, passwordField, refused, textField } from "../../components/field.js";
import { toast } from "../../components/toast.js";
import { knownPlans, suggestions } from "./known_names.js";

/**
 * Asks for what a user needs, and makes one.
 *
 * @param {import("../../app.js").Context} context
 * @returns {Promise<string | null>} the id; `null`: nothing was made
 */
export async function newUserDialog(context) {
  const { api, signal } = context;
  const plans = await knownPlans(context);
  /** @type {string | null} */
  let made = null;
  const username = textField("User name", { autocapitalize: "none", spellcheck: "false" });
  const name = textField("Name", {});
  const email = textField("E-mail", { type: "email" });
  const about = { value: plans[0] ?? "", spellcheck: "false", autocapitalize: "none", test: "new-user-plan" };
  const plan = textField("Plan", about);
  suggestions(plan.input, plans);
  const hint = "Without one nobody signs in as this user until an administrator sets one.";
  const password = passwordField("Password", { autocomplete: "new-password" }, { hint });
  const submit = async () => {
    const unnamed = username.input.value.trim() === "" ? "A user needs a name." : null;
    if (refused(username, unnamed) || refused(plan, nameProblem(plan.input.value.trim(), "plan"))) {
      return;
    }
    const body = {
      username: username.input.value.trim(),
      name: name.input.value.trim(),
      email: email.input.value.trim() || null,
      plan: plan.input.value.trim(),
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
