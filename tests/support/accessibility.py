"""What people can not use in a page: axe's findings, widths, sizes of targets, and the way of the focus."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page

from tests.support.node import axe

GRAVE = ("serious", "critical")
_RUN = """async rules => {
  const only = rules.length ? {runOnly: {type: "rule", values: rules}} : {};
  const found = await axe.run(document, {resultTypes: ["violations"], ...only});
  return found.violations.map(rule => ({
    rule: rule.id, impact: rule.impact,
    places: rule.nodes.map(node => `${node.target.join(" ")}: ${node.failureSummary}`),
  }));
}"""


def findings(page: Page, *rules: str) -> list[dict[str, Any]]:
    """What axe finds in the page as it stands that is serious or critical; by all rules, or by these."""
    if not page.evaluate("() => Boolean(window.axe)"):
        page.evaluate(axe().read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = page.evaluate(_RUN, rules)
    return [one for one in found if one["impact"] in GRAVE]


_SMALL = """least => [...document.querySelectorAll("button, a[href], input, select, textarea, summary, [role=button]")]
  .filter(element => element.checkVisibility({visibilityProperty: true, opacityProperty: true}))
  .filter(element => getComputedStyle(element).display !== "inline" && !element.matches("[type=hidden], .skip, td a"))
  .map(element => ({element, box: (element.closest("label") ?? element).getBoundingClientRect()}))
  .filter(({box}) => box.width > 1 && box.height > 1 && box.bottom > 0)
  .filter(({box}) => Math.min(box.width, box.height) < least - 0.5)
  .map(({element, box}) => `${element.outerHTML.slice(0, 90)} ${Math.round(box.width)}x${Math.round(box.height)}`)"""


def small_targets(page: Page, least: int = 44) -> list[str]:
    """What can be pressed and is smaller than `least` CSS pixels; links within text and tables are
    left out."""
    found: list[str] = page.evaluate(_SMALL, least)
    return found


FOCUSED = """() => {
  const element = document.activeElement;
  const style = getComputedStyle(element);
  const ring = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
  const box = element.getBoundingClientRect();
  return {
    name: (element.getAttribute("aria-label") || element.textContent || element.name || "").trim().slice(0, 60),
    tag: element.tagName, test: element.dataset.test ?? null, ring: ring || style.boxShadow !== "none",
    seen: box.width > 0 && box.height > 0 && element.checkVisibility(), dialog: element.closest("dialog") !== null,
  };
}"""


def focused(page: Page) -> dict[str, Any]:
    """What has the focus: `name`, `tag`, `test` (its data-test), `ring` (one sees that it has it), `seen`, `dialog`."""
    found: dict[str, Any] = page.evaluate(FOCUSED)
    return found


def tab_to(page: Page, test: str, *, most: int = 60, backwards: bool = False) -> list[dict[str, Any]]:
    """Press Tab until the focus is on what has this data-test; everything on the way. Raises `AssertionError`."""
    way = []
    for _ in range(most):
        page.keyboard.press("Shift+Tab" if backwards else "Tab")
        way.append(focused(page))
        if way[-1]["test"] == test:
            return way
    raise AssertionError(f"{test} is not reached by the keyboard: {[step['name'] for step in way]}")
