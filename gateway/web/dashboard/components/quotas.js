/** Several quotas side by side. */

import { h, KeyedList, setShown } from "../dom.js";
import { emptyState } from "./layout.js";
import { inOrder, quotaView } from "./quota.js";

/** @typedef {import("./quota.js").Quota} Quota */

/**
 * @param {{test: (name: string) => string, usage?: import("../usage.js").UsageHistory, none: string}} about `usage`:
 *   what was used while the page was open; `none`: what is said where there are no quotas
 */
export function quotasView(about) {
  const tiles = h("div", { class: "quotas" });
  const none = emptyState("overview", "No quotas", about.none);
  const { usage } = about;
  const list = new KeyedList(
    tiles,
    (/** @type {[string, Quota]} */ [name]) => name,
    ([name]) => {
      const samples = usage === undefined ? null : () => usage.of(name);
      const { element, update } = quotaView(name, { test: about.test(name), samples });
      return { element, update: ([, quota]) => update(quota) };
    },
  );
  return {
    element: h("div", null, tiles, none),
    /** @param {Record<string, Quota>} quotas */
    update(quotas) {
      const names = inOrder(quotas);
      list.show(names.map((name) => /** @type {[string, Quota]} */ ([name, quotas[name]])));
      setShown(none, names.length === 0);
      setShown(tiles, names.length > 0);
    },
  };
}
