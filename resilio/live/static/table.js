// The table of all policies, in order and filtered, and the sums above it.
import { $, put } from "./dom.js";
import { drawLegend } from "./ledger.js";
import { RowView } from "./row.js";
import { store, subscribe, view } from "./store.js";
import { chipOf, num, severity, states, words } from "./words.js";

function matches(policy) {
  if (!view.filter) return true;
  const text = `${policy.name} ${policy.kind} ${words(policy.kind)} ${states(policy).map(([state]) => `${state} ${words(state)}`).join(" ")} ${chipOf(policy)[1]}`.toLowerCase();
  return view.filter.split(/\s+/).every((word) => text.includes(word));
}

const byName = (a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.id - b.id);
function measure(policy) {
  return view.sort === "problems" ? severity(policy) : policy[view.sort] || 0;
}

// A stack stands together, the outermost policy first, where the worst of it belongs.
function sorted() {
  const shown = new Map([...store.policies.values()].filter(matches).map((policy) => [policy.id, policy]));
  const inner = new Set([...shown.values()].flatMap((policy) => policy.parts || []));
  view.inside.clear();
  const groups = [], placed = new Set();
  for (const head of [...shown.values()].sort((a, b) => inner.has(a.id) - inner.has(b.id) || byName(a, b))) {
    if (placed.has(head.id)) continue;
    const parts = (head.parts || []).filter((id) => id !== head.id && shown.has(id) && !placed.has(id));
    for (const id of parts) view.inside.set(id, head.id);
    const group = [head, ...parts.map((id) => shown.get(id))];
    for (const { id } of group) placed.add(id);
    groups.push({ head, group, worst: Math.max(...group.map(measure)) });
  }
  if (view.sort !== "name") groups.sort((a, b) => b.worst - a.worst || byName(a.head, b.head));
  return groups.flatMap(({ group }) => group);
}

let heldSince = 0;
function arrange(force) {
  const shown = sorted();
  const ids = shown.map((policy) => policy.id);
  const same = ids.length === view.order.length && ids.every((id, at) => id === view.order[at]);
  const pointed = !force && $("rows").matches(":hover") && ids.length === view.order.length;
  if (pointed && !same && (heldSince ||= Date.now()) > Date.now() - 5000) return; // rows do not run away from a pointer
  heldSince = 0;
  if (!same) {
    const focused = document.activeElement;
    const wanted = new Set(ids);
    for (const [id, row] of view.rows) if (!wanted.has(id)) { row.drop(); view.rows.delete(id); }
    let place = $("rows").firstChild;
    for (const id of ids) {
      let row = view.rows.get(id);
      if (!row) view.rows.set(id, row = new RowView(id));
      if (row.node === place) place = place.nextSibling; else $("rows").insertBefore(row.node, place);
    }
    view.order = ids;
    if (focused && focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
  }
  put($("shown"), ids.length === store.policies.size ? "" : `${ids.length} of ${store.policies.size}`);
  $("empty").hidden = ids.length > 0;
  put($("empty"), store.policies.size ? "No policy matches the filter." : "No policies yet: they appear here as soon as one is made.");
}

function sums() {
  const all = [...store.policies.values()];
  const parts = new Set(all.flatMap((policy) => policy.parts || []));
  const outer = all.filter((policy) => !parts.has(policy.id)); // a call counts once, and not again at each part of its pipeline
  const sum = (field, of) => of.reduce((total, policy) => total + (policy[field] || 0), 0);
  const problems = all.filter((policy) => severity(policy) > 0).length;
  const policies = all.filter((policy) => !policy.endpoint).length; // an endpoint is no policy
  put($("sum-policies"), num(policies));
  put($("word-policies"), policies === 1 ? "policy" : "policies");
  put($("sum-problems"), num(problems));
  put($("word-problems"), problems === 1 ? "needs a look" : "need a look");
  $("tile-problems").classList.toggle("bad", problems > 0);
  put($("sum-inflight"), num(sum("inflight", outer)));
  put($("sum-failures"), num(sum("failures_s", outer)));
  put($("sum-rejected"), num(sum("rejected_s", all)));
  document.title = problems ? `(${problems}) resilio` : "resilio";
}

export function drawAll(force) {
  $("policies").classList.toggle("timed", store.timed);
  if (store.timed) drawLegend($("legend"), store.policies.values());
  arrange(force);
  for (const row of view.visible) row.draw();
  sums();
  const about = store.process;
  put($("disabled"), about && about.disabled ? `${about.disabled}.` : "");
  $("disabled").hidden = !(about && about.disabled);
  put($("process"), about ? `process ${about.pid} on ${about.host}, Python ${about.python}` : "");
  $("unlock").hidden = !store.operations || Boolean(view.token);
  $("read-only").hidden = store.operations;
}

subscribe("news", ({ anew }) => drawAll(anew));
subscribe("view", () => drawAll());
subscribe("tick", () => {
  for (const row of view.visible) { const policy = store.policies.get(row.id); if (policy) { row.drawSince(policy); row.drawTrend(); } }
});
