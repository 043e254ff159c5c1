"""A page by keyboard alone: Tab from one control to the next, each of which shows its focus."""

from __future__ import annotations

STOPS = 80  # more than any page has
FOCUS = """() => {
  const focused = document.activeElement, style = getComputedStyle(focused);
  // A field of a file is hidden, and its label shows the focus.
  const shown = [focused, ...(focused.labels ?? [])].some((each) => {
    const own = getComputedStyle(each), box = each.getBoundingClientRect();
    return own.outlineStyle !== "none" && parseFloat(own.outlineWidth) >= 2 && box.width > 1 &&
      box.top < innerHeight && box.bottom > 0;
  });
  return {words: focused.outerHTML.slice(0, 120), shown, page: focused === document.body};
}"""


def tab_to(page, target, back: bool = False) -> list[str]:
    """Press Tab until a control has the focus, and return what had it on the way.

    Args:
        page: Playwright's page.
        target: Locator of the control.
        back: Whether to go backwards.
    """
    passed = []
    for _ in range(STOPS):
        page.keyboard.press("Shift+Tab" if back else "Tab")
        found = page.evaluate(FOCUS)
        assert found["page"] or found["shown"], f"focus is not seen: {found['words']}"
        if target.count() == 1 and target.evaluate("each => each === document.activeElement"):
            return passed
        passed.append(found["words"])
    raise AssertionError(f"Tab does not lead to {target}: {passed}")
