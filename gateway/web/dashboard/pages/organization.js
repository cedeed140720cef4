/** One organization: its pools, what its role lets somebody do, and its members for whoever may see them. */

import { h, setShown, replace } from "../dom.js";
import { day, wholeMoment } from "../format.js";
import { userIdProblem } from "../names.js";
import { own } from "../own.js";
import { acting, button } from "../components/button.js";
import { confirm, openDialog } from "../components/dialog.js";
import { choiceField, form, refused, textField } from "../components/field.js";
import { card, emptyState, page } from "../components/layout.js";
import { loading } from "../components/loading.js";
import { roleName, rolePill } from "../components/organization.js";
import { quotasView } from "../components/quotas.js";
import { table } from "../components/table.js";
import { toast } from "../components/toast.js";
import { go, link } from "../router.js";

/** @typedef {import("../app.js").Context} Context */
/** @typedef {{user: string, username: string, role: string, since: string}} Member */

/** @type {[string, string][]} */
const ROLES = ["member", "admin", "owner"].map((role) => [role, roleName(role)]);

/** @param {Context} context */
export function mount(context) {
  const { id } = context.params;
  const none = "The organization's plan has no pools.";
  const pools = quotasView({ test: (name) => `pool-${id}-${name}`, none });
  const granted = h("div");
  const members = h("div");
  const body = h("div", { class: "page" }, section("Pools", pools.element), granted, members);
  const gone = emptyState("organizations", "No such organization", "You are a member of none that has this name.");
  const title = h("span", null, "Organization");
  const leave = button("Leave", () => void leaveOrganization(context), { kind: "quiet-danger", test: "leave" });
  let shown = "";
  context.live.document((data) => {
    const membership = own(data.organizations, id);
    [body, leave].forEach((part) => setShown(part, membership !== undefined));
    setShown(gone, membership === undefined);
    if (membership === undefined) {
      shown = "";
      replace(title, "Organization");
      return;
    }
    pools.update(membership.quotas);
    const now = JSON.stringify([membership.name, membership.role, membership.permissions]);
    if (now !== shown) {
      shown = now;
      replace(title, membership.name || id, " ", rolePill(membership.role));
      replace(granted, grantedCard(membership.permissions));
      replace(members, maySee(context, membership) ? membersCard(context, membership) : null);
    }
  }, context.signal);
  const above = h("a", { href: link("organizations") }, "Organizations");
  return page(title, { above, lead: h("code", null, id), actions: leave }, body, gone);
}

/** @param {string} title @param {HTMLElement} element */
function section(title, element) {
  return h("section", { class: "section", "aria-label": title }, h("h2", null, title), element);
}

/** @param {Record<string, boolean>} permissions */
function grantedCard(permissions) {
  const names = Object.keys(permissions).sort();
  const list = names.map((name) => h("li", { class: "permission" }, h("code", null, name)));
  const content =
    names.length === 0
      ? h("p", { class: "hint" }, "Your role grants nothing more.")
      : h("ul", { class: "permissions" }, list);
  return card("What your role grants here", {}, content);
}

/** @param {Context} context */
async function leaveOrganization(context) {
  const { id } = context.params;
  const self = context.session.identity.id;
  const text = "You lose its pools and whatever it grants you. Somebody who manages it has to take you in again.";
  if (await confirm("Leave this organization?", text, "Leave", () => context.api.delete(memberPath(id, self)))) {
    toast("You have left the organization.");
    go(link("organizations"));
  }
}

/** @param {string} organization @param {string} [member] */
function memberPath(organization, member) {
  const members = ["/orgs", organization, "members"];
  return member === undefined ? members : [...members, member];
}

// --- members ---

/** @param {Context} context @param {any} membership */
function maySee(context, membership) {
  return mayChange(context, membership) || context.session.may("orgs.read");
}

/** @param {Context} context @param {any} membership */
function mayChange(context, membership) {
  return own(membership.permissions, "manage_members") === true || context.session.may("orgs.write");
}

/** @param {Context} context @param {any} membership */
function membersCard(context, membership) {
  const { api, params, signal } = context;
  const changing = mayChange(context, membership);
  /** @returns {Promise<Member[]>} */
  const load = () => api.all(memberPath(params.id), { signal });
  /** @type {import("../components/loading.js").Loading} */
  const list = loading(load, (members) => memberTable(context, members, changing, list.reload), signal);
  const add = () => void openAddMember(context, list.reload);
  const actions = changing && button("Add member", add, { icon: "plus", test: "add-member" });
  return card("Members", { flush: true, actions }, list.element);
}

/** @param {Context} context @param {Member[]} members @param {boolean} changing @param {() => Promise<void>} reload */
function memberTable(context, members, changing, reload) {
  /** @type {import("../components/table.js").Column<Member>[]} */
  const columns = [
    { title: "User name", kind: "main", cell: (member) => h("span", null, `@${member.username}`) },
    { title: "User ID", cell: (member) => h("code", null, member.user) },
    { title: "Role", cell: (member) => (changing ? roleChoice(context, member, reload) : rolePill(member.role)) },
    { title: "Since", cell: ({ since }) => h("time", { datetime: since, title: wholeMoment(since) }, day(since)) },
  ];
  if (changing) {
    const cell = (/** @type {Member} */ member) => removeButton(context, member, reload);
    columns.push({ title: "Actions", quiet: true, kind: "actions", cell });
  }
  return table("Members", columns, members, { test: (member) => `member-${member.user}` });
}

/** @param {Context} context @param {Member} member @param {() => Promise<void>} reload */
function roleChoice(context, member, reload) {
  const options = ROLES.map(([role, name]) => h("option", { value: role }, name));
  const label = `Role of ${member.username}`;
  const select = h("select", { class: "input select select-small", "aria-label": label }, options);
  select.value = member.role;
  select.addEventListener("change", async () => {
    const role = select.value;
    const done = await acting(null, async () => {
      await context.api.put(memberPath(context.params.id, member.user), { role });
      return true;
    });
    if (done) {
      toast(`${member.username} is ${roleName(role).toLowerCase()} now.`);
      await reload();
    } else {
      select.value = member.role;
    }
  });
  return select;
}

/** @param {Context} context @param {Member} member @param {() => Promise<void>} reload */
function removeButton(context, member, reload) {
  const remove = async () => {
    const text = [
      h("strong", null, member.username),
      " loses the pools and whatever the organization grants, at once.",
    ];
    const act = () => context.api.delete(memberPath(context.params.id, member.user));
    if (await confirm("Remove this member?", text, "Remove", act)) {
      toast(`${member.username} was removed.`);
      await reload();
    }
  };
  const about = /** @type {const} */ ({ kind: "quiet-danger", small: true });
  return button("Remove", () => void remove(), { ...about, label: `Remove ${member.username}` });
}

/** @param {Context} context @param {() => Promise<void>} reload */
function openAddMember(context, reload) {
  const user = textField("User ID", { test: "add-member-user", spellcheck: "false" }, { hint: "It begins with u_." });
  const role = choiceField("Role", ROLES, { test: "add-member-role" });
  const submit = async () => {
    const id = user.input.value.trim();
    if (refused(user, userIdProblem(id))) {
      return;
    }
    await context.api.put(memberPath(context.params.id, id), { role: role.input.value });
    opened.close();
    toast("The member was added.");
    await reload();
  };
  const about = { verb: "Add member", verbTest: "add-member-submit", label: "Add member" };
  const fields = form(about, submit, user.element, role.element);
  const opened = openDialog("Add member", { class: "dialog-small", signal: context.signal }, fields);
  user.input.focus();
}
