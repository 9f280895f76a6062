// Light or dark: the system's choice until somebody presses the button. Runs before the page is
// painted; the button comes later.
(() => {
  const key = "arena-theme";
  const root = document.documentElement;
  const apply = (theme) => { if (theme) root.dataset.theme = theme; else delete root.dataset.theme; };
  try { apply(localStorage.getItem(key)); } catch { /* storage is off: the system's choice stays */ }
  root.classList.add("js");
  document.addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme")?.addEventListener("click", () => {
      const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      const next = dark ? "light" : "dark";
      apply(next);
      try { localStorage.setItem(key, next); } catch { /* as above */ }
    });
    // One menu at a time; Escape and a click elsewhere close it.
    const close = (except) => document.querySelectorAll("details.menu[open]").forEach((menu) => { if (menu !== except) menu.open = false; });
    document.addEventListener("click", (event) => close(event.target.closest("details.menu")));
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      const open = document.querySelector("details.menu[open]");
      if (open) { open.open = false; open.querySelector("summary").focus(); }
    });
    document.addEventListener("click", async (event) => {
      const button = event.target.closest("[data-copy], #copy");
      if (!button) return;
      const input = button.parentElement.querySelector("input");
      try { await navigator.clipboard.writeText(input.value); } catch { input.select(); document.execCommand("copy"); }
      const text = button.textContent;
      button.textContent = button.dataset.done;
      setTimeout(() => { button.textContent = text; }, 1500);
    });
  });
})();
