/** What can not be taken back about a user. */

import { h } from "../../dom.js";
import { counted } from "../../format.js";
import { go, link } from "../../router.js";
import { button } from "../../components/button.js";
import { confirm } from "../../components/dialog.js";
import { card } from "../../components/layout.js";
import { toast } from "../../components/toast.js";

const NOTHING_ENDED = "Nothing was ended: no session and no token was in force.";

/** @param {import("./subject.js").Subject} subject */
export function dangerCard(subject) {
  const { api } = subject.context;
  const { id, user } = subject;
  const endAll = async () => {
    let count = 0;
    const act = () =>
      subject.log.edit("End everything", async () => {
        const answer = await api.post("/admin/revoke-before", { user: id });
        count = answer.revoked;
        return answer;
      });
    const text = `Every login session and every API token of ${user.username} is void from this moment on.`;
    if (await confirm("End all sessions and tokens?", text, "End all", act)) {
      toast(count === 0 ? NOTHING_ENDED : `${counted(count, "session or token", "sessions and tokens")} ended.`);
    }
  };
  const remove = async () => {
    const text = `${user.username} goes, with all balances, grants, sessions and tokens. This can not be taken back.`;
    if (await confirm("Delete this user?", text, "Delete", () => api.delete(subject.path()))) {
      toast(`${user.username} was deleted.`);
      go(link("admin", "users"));
    }
  };
  return card(
    "What can not be taken back",
    {},
    h(
      "div",
      { class: "actions" },
      button("End all sessions and tokens…", () => void endAll(), { test: "end-all" }),
      button("Delete user…", () => void remove(), { kind: "quiet-danger", test: "delete-user" }),
    ),
  );
}
