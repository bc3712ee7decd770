// One policy in full.
import { $, element, facts, heading, put } from "./dom.js";
import { ledger } from "./ledger.js";
import { operations, options } from "./operations.js";
import { store, subscribe, view } from "./store.js";
import { readHeaders } from "./token.js";
import { age, kindOf, ms, now, num, whyText, words } from "./words.js";

let detail = null, detailShape = "", opener = null;

function openDetail(id) {
  opener = document.activeElement;
  view.open = id;
  detail = null;
  detailShape = "";
  $("detail").hidden = false;
  put($("detail-name"), store.policies.get(id).name);
  put($("detail-kind"), kindOf(store.policies.get(id)));
  $("detail-body").replaceChildren(element("p", { class: "note", text: "Loading …" }));
  $("detail").focus({ preventScroll: true });
  for (const row of view.visible) row.draw();
  refreshDetail();
}
export function closeDetail() {
  view.open = null;
  $("detail").hidden = true;
  for (const row of view.visible) row.draw();
  if (opener && opener.isConnected) opener.focus({ preventScroll: true });
}
async function refreshDetail() {
  const id = view.open;
  if (id === null) return;
  try {
    const response = await fetch(`policy?id=${id}`, { headers: readHeaders(), cache: "no-store" });
    if (!response.ok || view.open !== id) return;
    detail = await response.json();
    drawDetail();
  } catch { /* the stream says that the connection is lost */ }
}
function drawDetail() {
  const policy = store.policies.get(view.open);
  if (!policy || !detail) return;
  const shape = JSON.stringify([view.open, detail.options, detail.explain, policy.ops, Boolean(view.token), store.operations]);
  if (shape !== detailShape) buildDetail(policy);
  detailShape = shape;
  const live = $("detail-live");
  const made = [];
  if (policy.why) made.push(element("p", { class: "rejection", text: `Rejected ${age(Math.max(0, now() - policy.why.at))}${now() - policy.why.at < 1 ? "" : " ago"}: ${whyText(policy.why)}` }));
  for (const reason of detail.health) made.push(element("p", { class: "warning", text: reason }));
  if (policy.time && Object.keys(policy.time).length) made.push(heading("Time spent in the last second"), ...ledger(policy.time));
  const rejections = Object.entries(detail.rejections);
  if (rejections.length) made.push(heading("Rejections by reason"), facts(rejections.map(([reason, count]) => [words(reason), num(count)])));
  if (detail.keys && detail.keys.length) made.push(heading(detail.keys.some((key) => key.state) ? "Keys that need a look" : "Keys, most rejected first"), facts(detail.keys.map((key) => [key.key, keyText(key)])));
  const latency = Object.entries(detail.latency);
  if (latency.length) made.push(heading("Latency since the start"), facts(latency.map(([name, value]) => [name, ms(value)])));
  made.push(heading("Numbers"), facts(Object.entries(detail.numbers).filter(([, value]) => value !== 0 && value !== false).map(([name, value]) => [words(name), typeof value === "number" ? num(value) : String(value)])));
  live.replaceChildren(...made);
}
function keyText(key) {
  const counted = [["rejected", key.rejected], ["failed", key.failures], ["queued", key.queued], ["in flight", key.inflight], [key.calls === 1 ? "call" : "calls", key.calls]];
  const found = counted.filter(([name, count]) => count && !(key.state && name.startsWith("call"))).map(([name, count]) => `${num(count)} ${name}`);
  return [...(key.state ? [words(key.state)] : []), ...found].join(", ");
}
function buildDetail(policy) {
  const made = [];
  if (detail.explain) made.push(...explained(detail.explain));
  made.push(...operations(policy), element("div", { id: "detail-live" }));
  if (detail.options) made.push(...options(policy, detail.options));
  $("detail-body").replaceChildren(...made);
}
function explained(explain) {
  const steps = element("ol", { class: "steps" });
  for (const step of explain.steps) {
    const text = Object.entries(step.options).map(([name, value]) => `${name}=${value}`).join(", ");
    steps.append(element("li", {}, element("b", { text: words(step.kind) }), step.name ? ` ${step.name}` : "", element("small", { class: "muted", text: text ? ` (${text})` : "" })));
  }
  return [heading("Outermost first"), steps, ...explain.warnings.map((text) => element("p", { class: "warning", text }))];
}

function closeIfGone(removed) { // a number may come again, for another policy
  if (view.open !== null && (removed.includes(view.open) || !store.policies.has(view.open))) closeDetail();
}

subscribe("open", openDetail);
subscribe("news", ({ removed }) => { closeIfGone(removed); refreshDetail(); });
subscribe("operated", refreshDetail);
subscribe("unlocked", drawDetail);
