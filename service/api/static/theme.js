// Before the first paint: the theme that was chosen here; without a choice, the system's.
"use strict";
(() => {
  const root = document.documentElement;
  const chosen = localStorage.getItem("sluice-theme");
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
  document.addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme")?.addEventListener("click", () => {
      const isDark = root.dataset.theme
        ? root.dataset.theme === "dark"
        : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = isDark ? "light" : "dark";
      localStorage.setItem("sluice-theme", root.dataset.theme);
    });
  });
})();
