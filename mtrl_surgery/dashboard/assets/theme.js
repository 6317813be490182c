"use strict";
// Light or dark: as the address says, else as the button was set, else as the system is. Runs before anything is drawn.
(() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const kept = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const asked = () => new URLSearchParams(location.search).get("theme");
  const apply = (theme) => { root.dataset.theme = theme === "dark" || theme === "light" ? theme : system.matches ? "dark" : "light"; };
  apply(asked() || kept());
  system.addEventListener("change", () => apply(asked() || kept()));
  document.addEventListener("click", ({ target }) => {
    if (target.id !== "theme") return;
    apply(root.dataset.theme === "dark" ? "light" : "dark");
    try { localStorage.setItem("theme", root.dataset.theme); } catch { /* a browser that keeps nothing */ }
  });
})();
