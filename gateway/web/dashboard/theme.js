/** Light or dark: what the system prefers, or what was chosen here. */

/** @typedef {"system" | "light" | "dark"} Theme */

/** @type {readonly Theme[]} */
export const THEMES = ["system", "light", "dark"];

/** @returns {Theme} */
export function chosenTheme() {
  const chosen = document.documentElement.dataset.theme;
  return chosen === "light" || chosen === "dark" ? chosen : "system";
}

/** @param {Theme} theme */
export function chooseTheme(theme) {
  if (theme === "system") {
    delete document.documentElement.dataset.theme;
  } else {
    document.documentElement.dataset.theme = theme;
  }
  try {
    if (theme === "system") {
      localStorage.removeItem("theme");
    } else {
      localStorage.setItem("theme", theme);
    }
  } catch {
    // Where nothing can be kept, it holds until the page is closed.
  }
  document.dispatchEvent(new CustomEvent("theme"));
}

/** The theme that follows: the button of the shell goes round. @returns {Theme} */
export function nextTheme() {
  return THEMES[(THEMES.indexOf(chosenTheme()) + 1) % THEMES.length];
}
