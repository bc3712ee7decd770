// The tokens, which stay in the memory of this tab.
import { $, put } from "./dom.js";
import { publish, subscribe, view } from "./store.js";

export const readHeaders = () => (view.readToken || view.token ? { authorization: `Bearer ${view.readToken || view.token}` } : {});

let tokenFor = "operate";
function showToken({ purpose, why }) {
  tokenFor = purpose;
  put($("token-why"), why);
  $("token-cancel").hidden = purpose === "read";
  $("token-form").hidden = false;
  $("token").focus();
}
$("unlock").addEventListener("click", () => showToken({ purpose: "operate", why: "Token for operations" }));
$("token-cancel").addEventListener("click", () => { $("token").value = ""; $("token-form").hidden = true; $("unlock").focus(); });
$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const value = $("token").value;
  $("token").value = "";
  $("token-form").hidden = true;
  if (tokenFor === "read") { view.readToken = value; publish("readable"); } else { view.token = value; publish("view"); publish("unlocked"); }
});
subscribe("token", showToken);
