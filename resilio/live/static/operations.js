// What may be done to a policy, by who has the token.
import { element, heading, put } from "./dom.js";
import { publish, store, view } from "./store.js";
import { words } from "./words.js";

const ASKS = {
  force_open: ["Force open", "Reject every call until you say otherwise?"],
  half_open: ["Half open", "Let the next call probe now?"],
  force_closed: ["Force closed", "Let every call pass until you say otherwise?"],
  disable: ["Disable", "Let every call pass and learn nothing?"],
  reset: ["Reset", "Forget what it has learned?"],
  resume: ["Resume", "Let calls in again?"],
};
export function operations(policy) {
  const able = policy.ops.filter((name) => ASKS[name]);
  if (!store.operations || !able.length) return [];
  if (!view.token) return [heading("Operations"), element("p", { class: "note", text: "Unlock them with the token, above." })];
  const row = element("div", { class: "ops" });
  const answer = element("p", { class: "note", role: "status", id: "answer" });
  for (const name of able) row.append(element("button", { type: "button", class: "quiet", "data-op": name, text: ASKS[name][0], onclick: () => confirmFirst(row, answer, policy.id, name) }));
  return [heading("Operations"), row, answer];
}
function confirmFirst(row, answer, id, name) {
  const before = [...row.children];
  const back = () => { row.replaceChildren(...before); before.find((button) => button.dataset.op === name).focus(); };
  const yes = element("button", { type: "button", class: name === "force_open" ? "danger" : "", "data-yes": name, text: `Yes, ${ASKS[name][0].toLowerCase()}`, onclick: async () => { back(); await ask({ id, do: name }, answer); } });
  row.replaceChildren(element("span", { text: ASKS[name][1] }), yes, element("button", { type: "button", class: "quiet", text: "No", onclick: back }));
  yes.focus();
}
async function ask(body, answer) {
  put(answer, "…");
  try {
    const response = await fetch("operate", { method: "POST", headers: { "content-type": "application/json", authorization: `Bearer ${view.token}` }, body: JSON.stringify({ boot: store.boot, ...body }) });
    const data = await response.json();
    put(answer, response.ok ? `Done: ${words(data.done)}${data.state ? `, it is ${words(data.state)}` : ""}.` : `Rejected: ${data.error}`);
    if (response.status === 401) { view.token = null; publish("view"); publish("token", { purpose: "operate", why: "That token was rejected. Token for operations" }); }
    if (response.ok) publish("operated");
    return response.ok;
  } catch {
    put(answer, "The server did not answer.");
    return false;
  }
}

function parsed(text) {
  const bare = text.trim();
  if (bare === "None" || bare === "") return null;
  if (bare === "True" || bare === "true") return true;
  if (bare === "False" || bare === "false") return false;
  const value = Number(bare);
  return Number.isFinite(value) ? value : bare;
}
export function options(policy, values) {
  const able = store.operations && view.token && policy.ops.includes("reconfigure");
  const inputs = [];
  const list = element("dl", { class: "facts" });
  for (const option of values) {
    const value = element("dd");
    if (able && option.plain) {
      const input = element("input", { type: "text", value: option.value, "aria-label": option.name, "data-option": option.name, spellcheck: "false" });
      inputs.push([option, input]);
      value.append(input);
    } else value.textContent = option.value;
    list.append(element("dt", { text: option.name }), value);
  }
  if (!able) return [heading("Options"), list];
  const answer = element("p", { class: "note", role: "status" });
  const save = element("button", { type: "submit", text: "Apply changes" });
  const form = element("form", { onsubmit: (event) => {
    event.preventDefault();
    const changed = inputs.filter(([option, input]) => input.value !== option.value);
    if (!changed.length) { put(answer, "Nothing was changed."); return; }
    ask({ id: policy.id, do: "reconfigure", options: Object.fromEntries(changed.map(([option, input]) => [option.name, parsed(input.value)])) }, answer);
  } }, list, save, answer);
  return [heading("Options"), form];
}
