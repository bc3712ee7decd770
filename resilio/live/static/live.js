// The live page: what is pressed, and where it begins.
import { closeDetail } from "./detail.js";
import { $, element } from "./dom.js";
import { view } from "./store.js";
import { follow, setState } from "./stream.js";
import { drawAll } from "./table.js";
import "./theme.js";

function setSort(value) {
  view.sort = value;
  $("sort").value = value;
  for (const head of document.querySelectorAll("th[data-sort]")) {
    if (head.dataset.sort === value) head.setAttribute("aria-sort", value === "name" ? "ascending" : "descending");
    else head.removeAttribute("aria-sort");
  }
  drawAll(true);
}
for (const head of document.querySelectorAll("th[data-sort]")) {
  const button = element("button", { type: "button", text: head.textContent, onclick: () => setSort(view.sort === head.dataset.sort ? "problems" : head.dataset.sort) });
  head.replaceChildren(button);
}
$("sort").addEventListener("change", () => setSort($("sort").value));
$("filter").addEventListener("input", () => { view.filter = $("filter").value.trim().toLowerCase(); drawAll(true); });
$("detail-close").addEventListener("click", closeDetail);
document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  if (event.key === "/" && !typing) { event.preventDefault(); $("filter").focus(); }
  if (event.key === "Escape" && view.open !== null) closeDetail();
  if ((event.key === "ArrowDown" || event.key === "ArrowUp") && event.target.closest("#rows")) {
    const row = event.target.closest("tr")[event.key === "ArrowDown" ? "nextElementSibling" : "previousElementSibling"];
    if (row) { event.preventDefault(); row.querySelector("button").focus(); }
  }
});

setState("connecting", "Connecting");
follow();
