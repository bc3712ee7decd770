// Light, dark, or as the system.
import { $, put } from "./dom.js";

const root = document.documentElement;
const THEMES = ["auto", "light", "dark"];
const system = matchMedia("(prefers-color-scheme: dark)");
let theme = "auto";
try { theme = THEMES.includes(localStorage.getItem("resilio-theme")) ? localStorage.getItem("resilio-theme") : "auto"; } catch { /* no storage */ }
function applyTheme() {
  root.dataset.theme = theme === "auto" ? (system.matches ? "dark" : "light") : theme;
  put($("theme"), `◐ ${theme[0].toUpperCase()}${theme.slice(1)}`);
  $("theme").setAttribute("aria-label", `Colours: ${theme === "auto" ? "as the system" : theme}`);
}
$("theme").addEventListener("click", () => {
  theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  try { localStorage.setItem("resilio-theme", theme); } catch { /* no storage */ }
  applyTheme();
});
system.addEventListener("change", applyTheme);
applyTheme();
