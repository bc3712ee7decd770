// The tokens, which stay in the memory of this tab.
import { drawDetail } from "./detail.js";
import { $, put } from "./dom.js";
import { view } from "./store.js";
import { follow } from "./stream.js";
import { drawAll } from "./table.js";

export const readHeaders = () => (view.readToken || view.token ? { authorization: `Bearer ${view.readToken || view.token}` } : {});

let tokenFor = "operate";
export function showToken(purpose, why) {
  tokenFor = purpose;
  put($("token-why"), why);
  $("token-cancel").hidden = purpose === "read";
  $("token-form").hidden = false;
  $("token").focus();
}
$("unlock").addEventListener("click", () => showToken("operate", "Token for operations"));
$("token-cancel").addEventListener("click", () => { $("token").value = ""; $("token-form").hidden = true; $("unlock").focus(); });
$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const value = $("token").value;
  $("token").value = "";
  $("token-form").hidden = true;
  if (tokenFor === "read") { view.readToken = value; follow(); } else { view.token = value; drawAll(); drawDetail(); }
});
