// The live page. It builds everything by textContent and attributes: names of policies are data, never markup.
"use strict";

const $ = (id) => document.getElementById(id);
const root = document.documentElement;
const SEGMENTS = ["queue", "rate_limit", "attempt", "connect", "first_byte", "body", "retry_sleep", "hedge", "fallback", "own"];
const MINUTE = 60;
const SILENCE_MS = 12000;
const HIDDEN_MS = 60000;

// ---- what is known -------------------------------------------------------------------------------------------

const store = {
  boot: null, lastId: null, operations: false, interval: 1, process: null,
  policies: new Map(), trends: new Map(), events: [], skew: 0, at: 0, timed: false,
};
const view = { filter: "", sort: "problems", open: null, token: null, readToken: null, order: [], rows: new Map(), visible: new Set() };

function takeSnapshot(data) {
  if (data.boot !== store.boot) store.trends.clear();
  Object.assign(store, { boot: data.boot, operations: Boolean(data.operations), interval: data.interval, process: data.process || null });
  if (data.process) store.skew = data.process.now - Date.now() / 1000;
  store.policies = new Map(data.policies.map((policy) => [policy.id, policy]));
  store.events = data.events.slice();
  for (const policy of store.policies.values()) note(policy);
  if (view.open !== null && !store.policies.has(view.open)) closeDetail();
}

function takeDelta(data) {
  for (const id of data.removed) { store.policies.delete(id); store.trends.delete(id); if (view.open === id) closeDetail(); }
  for (const news of data.changed) { // after those: of a watched process that was started anew, numbers come again
    const policy = store.policies.get(news.id);
    if (policy) Object.assign(policy, news); else store.policies.set(news.id, news);
  }
  store.events = store.events.concat(data.events).slice(-200);
  for (const policy of store.policies.values()) note(policy);
  announce(data.events);
}

function note(policy) {
  let trend = store.trends.get(policy.id);
  if (!trend) store.trends.set(policy.id, trend = []);
  trend.push([policy.calls_s || 0, (policy.failures_s || 0) + (policy.rejected_s || 0)]);
  if (trend.length > MINUTE) trend.shift();
  if (policy.time && Object.keys(policy.time).length) store.timed = true;
}

// ---- what it means -------------------------------------------------------------------------------------------

const STATES = {
  closed: "ok", admitting: "ok", normal: "ok", serving: "ok", open: "bad", forced_open: "bad", closed_down: "bad",
  draining: "bad", drained: "bad", half_open: "warn", overloaded: "warn", forced_closed: "info", disabled: "info",
};
const tone = (state) => STATES[state] || "none";
const words = (text) => String(text).replaceAll("_", " ");

function states(policy) {
  if (policy.state && typeof policy.state === "object") return Object.entries(policy.state);
  return policy.state ? [[policy.state, 1]] : [];
}

function severity(policy) {
  if (policy.trouble || states(policy).some(([state, count]) => count && tone(state) === "bad")) return 3;
  if (policy.rejected_s > 0 || states(policy).some(([state, count]) => count && tone(state) === "warn")) return 2;
  if (policy.calls_s > 0 && policy.failures_s / policy.calls_s > 0.05) return 1;
  return 0;
}

function chipOf(policy) {
  if (policy.trouble) return ["bad", policy.trouble];
  const all = states(policy).filter(([, count]) => count);
  if (policy.state && typeof policy.state === "object") {
    if (!all.length) return ["none", "no keys"];
    const rank = { bad: 0, warn: 1, info: 2, ok: 3, none: 4 };
    all.sort((a, b) => rank[tone(a[0])] - rank[tone(b[0])]);
    const off = all.filter(([state]) => tone(state) !== "ok");
    const total = all.reduce((sum, [, count]) => sum + count, 0);
    if (!off.length) return ["ok", `all ${total} ${words(all[0][0])}`];
    return [tone(off[0][0]), `${off[0][1]} of ${total} ${words(off[0][0])}`];
  }
  if (!policy.state) return ["none", "–"];
  return [tone(policy.state), words(policy.state)];
}

const kindOf = (policy) => words(policy.of ? `${policy.kind} ${policy.of}` : policy.kind);
const now = () => Date.now() / 1000 + store.skew;
function age(seconds) {
  if (seconds < 1) return "now";
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}
function num(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)}M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(1)}k`;
  if (value >= 10 || Number.isInteger(value)) return String(Math.round(value));
  return String(Number(value.toFixed(value >= 1 ? 1 : 2)));
}
function ms(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 10000) return `${(value / 1000).toFixed(1)} s`;
  if (value >= 1000) return `${(value / 1000).toFixed(2)} s`;
  if (value >= 100) return `${Math.round(value)} ms`;
  if (value >= 1) return `${value.toFixed(1)} ms`;
  return `${Math.round(value * 1000)} µs`;
}
function inMs(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1e5) return `${Math.round(value / 1000)} s`;
  return value >= 100 ? String(Math.round(value)) : String(Number(value.toFixed(value >= 1 ? 1 : 2)));
}
function whyText(why) {
  let text = words(why.reason);
  if (why.measured !== null && why.limit !== null) text += `: ${num(why.measured)} against ${num(why.limit)}`;
  else if (why.measured !== null) text += `: ${num(why.measured)}`;
  if (why.retry_after !== null) text += `, retry after ${why.retry_after < 1 ? ms(why.retry_after * 1000) : age(why.retry_after)}`;
  if (why.key) text += ` (key ${why.key})`;
  return text;
}

// ---- the table -----------------------------------------------------------------------------------------------

function element(name, options = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(options)) {
    if (key === "class") made.className = value;
    else if (key === "text") made.textContent = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}
function svg(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
function put(node, text) { if (node.textContent !== text) node.textContent = text; }
function dress(node, name) { if (node.className !== name) node.className = name; }

class RowView {
  constructor(id) {
    this.id = id;
    const cell = (name, label, ...children) => element("td", { class: name, role: "cell", ...(label ? { "data-label": label } : {}) }, ...children);
    this.chip = element("span", { class: "chip" });
    this.since = element("span", { class: "since" });
    this.button = element("button", { type: "button", onclick: () => openDetail(id) });
    this.kind = element("span", { class: "kind" });
    this.why = element("span", { class: "why" });
    this.line = element("small", {}, this.kind, this.why);
    this.meter = element("span", { class: "meter", "aria-hidden": "true" }, this.fill = element("i"));
    this.inflight = element("span");
    this.queue = element("span", { class: "queue" });
    this.all = svg("polyline", {});
    this.lost = svg("polyline", { class: "lost" });
    this.spark = svg("svg", { class: "spark", viewBox: "0 0 100 24", preserveAspectRatio: "none", "aria-hidden": "true" });
    this.spark.append(this.all, this.lost);
    this.stack = element("div", { class: "stack", role: "img" });
    this.cells = {
      calls_s: cell("num", "calls / s"), failures_s: cell("num", "failed / s"), rejected_s: cell("num", "refused / s"),
      p50: cell("num", "p50 ms"), p95: cell("num", "p95 ms"), p99: cell("num", "p99 ms"),
    };
    this.node = element("tr", { role: "row", "data-id": id },
      cell("state", "", this.chip, this.since), cell("who", "", this.button, this.line),
      cell("inflight", "", element("div", { class: "load" }, element("span", { class: "of" }, this.meter, this.inflight), this.queue)),
      this.cells.calls_s, cell("trend", "", this.spark), this.cells.failures_s, this.cells.rejected_s,
      this.cells.p50, this.cells.p95, this.cells.p99, cell("time", "", this.stack));
    this.node.view = this;
    this.draw(); // once even off the screen: the browser's own search finds it
    watcher.observe(this.node);
  }

  draw() {
    const policy = store.policies.get(this.id);
    if (!policy) return;
    const [kind, text] = chipOf(policy);
    dress(this.chip, `chip ${kind}`);
    put(this.chip, text);
    put(this.button, policy.name);
    put(this.kind, kindOf(policy));
    const recent = policy.why && now() - policy.why.at < 10;
    put(this.why, recent ? whyText(policy.why) : "");
    dress(this.line, recent ? "refused" : "");
    if (recent) this.line.title = `${kindOf(policy)}, refused: ${whyText(policy.why)}`; else this.line.removeAttribute("title");
    this.drawSince(policy);
    this.drawLoad(policy);
    for (const [field, node] of Object.entries(this.cells)) {
      const value = policy[field];
      put(node, field[0] === "p" ? inMs(value) : num(value));
      const alarming = field === "rejected_s" ? " refusing" : field === "failures_s" && value > 0.05 * policy.calls_s ? " failing" : "";
      dress(node, `num${value ? alarming : " zero"}`);
    }
    this.drawTrend();
    if (store.timed) drawStack(this.stack, policy.time);
    this.node.classList.toggle("open", view.open === this.id);
  }

  drawSince(policy) {
    let text = policy.since ? `for ${age(Math.max(1, now() - policy.since))}` : "";
    if (policy.opened) text += `, opened ${policy.opened}×`;
    put(this.since, text);
  }

  drawLoad(policy) {
    const share = policy.limit ? Math.min(1, policy.inflight / policy.limit) : 0;
    this.meter.hidden = !policy.limit;
    this.fill.style.width = `${Math.round(100 * share)}%`;
    dress(this.meter, share >= 0.9 ? "meter full" : "meter");
    put(this.inflight, policy.limit ? `${num(policy.inflight)} of ${num(policy.limit)}` : num(policy.inflight));
    put(this.queue, policy.queued ? `+${num(policy.queued)} queued` : "");
  }

  drawTrend() {
    const trend = store.trends.get(this.id) || [];
    const top = Math.max(1e-9, ...trend.map(([calls]) => calls));
    const points = (index) => trend.map((point, at) => `${((at + MINUTE - trend.length) * 100 / (MINUTE - 1)).toFixed(1)},${(22.5 - 20 * Math.min(1, point[index] / top)).toFixed(1)}`).join(" ");
    const some = trend.some(([calls]) => calls > 0);
    this.all.setAttribute("points", some ? points(0) : "");
    this.lost.setAttribute("points", trend.some(([, lost]) => lost > 0) ? points(1) : "");
  }

  drop() { watcher.unobserve(this.node); view.visible.delete(this); this.node.remove(); }
}

function drawStack(node, time) {
  const spent = SEGMENTS.map((name, at) => [name, at, (time && time[name]) || 0]).filter(([, , value]) => value > 0);
  const total = spent.reduce((sum, [, , value]) => sum + value, 0);
  while (node.children.length > spent.length) node.lastChild.remove();
  while (node.children.length < spent.length) node.append(element("i"));
  spent.forEach(([, at, value], place) => {
    const part = node.children[place];
    dress(part, `s${at}`);
    part.style.width = `${(100 * value / total).toFixed(1)}%`;
  });
  node.hidden = !spent.length;
  const text = spent.map(([name, , value]) => `${words(name)} ${Math.round(100 * value / total)} %`).join(", ");
  node.setAttribute("aria-label", text || "no time spent");
  node.title = text;
}

// Only rows on the screen are drawn: with hundreds of policies the others cost nothing.
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const row = entry.target.view;
    if (entry.isIntersecting) { view.visible.add(row); row.draw(); } else view.visible.delete(row);
  }
}, { rootMargin: "200px" });

function matches(policy) {
  if (!view.filter) return true;
  const text = `${policy.name} ${policy.kind} ${words(policy.kind)} ${states(policy).map(([state]) => `${state} ${words(state)}`).join(" ")}`.toLowerCase();
  return view.filter.split(/\s+/).every((word) => text.includes(word));
}

function sorted() {
  const shown = [...store.policies.values()].filter(matches);
  const byName = (a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.id - b.id);
  if (view.sort === "name") return shown.sort(byName);
  if (view.sort === "problems") return shown.sort((a, b) => severity(b) - severity(a) || byName(a, b));
  return shown.sort((a, b) => (b[view.sort] || 0) - (a[view.sort] || 0) || byName(a, b));
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
  const all = [...store.policies.values()].filter((policy) => policy.kind !== "pipeline");
  const sum = (field) => all.reduce((total, policy) => total + (policy[field] || 0), 0);
  const problems = [...store.policies.values()].filter((policy) => severity(policy) >= 2).length;
  put($("sum-policies"), num(store.policies.size));
  put($("sum-problems"), num(problems));
  $("tile-problems").classList.toggle("bad", problems > 0);
  put($("sum-inflight"), num(sum("inflight")));
  put($("sum-failures"), num(sum("failures_s")));
  put($("sum-rejected"), num(sum("rejected_s")));
  document.title = problems ? `(${problems}) resilio` : "resilio";
}

function drawAll(force) {
  $("policies").classList.toggle("timed", store.timed);
  arrange(force);
  for (const row of view.visible) row.draw();
  sums();
  const about = store.process;
  put($("process"), about ? `process ${about.pid} on ${about.host}, Python ${about.python}` : "");
  $("unlock").hidden = !store.operations || Boolean(view.token);
  $("read-only").hidden = store.operations;
}

// ---- events --------------------------------------------------------------------------------------------------

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
let newestShown = 0;
function eventNode(event) {
  const when = new Date((event.at - store.skew) * 1000);
  const node = element("li", {}, element("time", { datetime: when.toISOString(), text: clock.format(when) }), element("b", { text: event.name || words(event.kind) }));
  const key = event.key ? ` key ${event.key}` : "";
  if (event.what === "state") {
    node.append(`${key} ${words(event.old)} → `, element("span", { class: `to ${tone(event.new)}`, text: words(event.new) }), ` (${words(event.reason)})`);
  } else if (event.what === "limit") {
    node.append(`${key} limit ${num(event.old)} → `, element("span", { class: "to", text: num(event.new) }));
  } else {
    node.append(" ", element("span", { class: "to info", text: words(event.do) }), `${event.options ? ` ${event.options}` : ""} by an operator at ${event.by}`);
  }
  return node;
}
function drawEvents(anew) {
  const list = $("events");
  if (anew) { list.replaceChildren(); newestShown = 0; }
  for (const event of store.events) if (event.id > newestShown) { list.prepend(eventNode(event)); newestShown = event.id; }
  while (list.children.length > 100) list.lastChild.remove();
  $("no-events").hidden = list.children.length > 0;
}
let announced = 0;
function announce(events) {
  const changes = events.filter((event) => event.what === "state");
  if (!changes.length || Date.now() - announced < 3000) return;
  announced = Date.now();
  const said = changes.slice(0, 3).map((event) => `${event.name || words(event.kind)} is ${words(event.new)}`);
  if (changes.length > 3) said.push(`and ${changes.length - 3} more changes`);
  put($("announce"), said.join(", "));
}

// ---- one policy in full --------------------------------------------------------------------------------------

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
function closeDetail() {
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
function facts(pairs) {
  const list = element("dl", { class: "facts" });
  for (const [name, value] of pairs) list.append(element("dt", { text: name }), element("dd", {}, value));
  return list;
}
const heading = (text) => element("h3", { text });

function drawDetail() {
  const policy = store.policies.get(view.open);
  if (!policy || !detail) return;
  const shape = JSON.stringify([view.open, detail.options, detail.explain, policy.ops, Boolean(view.token), store.operations]);
  if (shape !== detailShape) buildDetail(policy);
  detailShape = shape;
  const live = $("detail-live");
  const made = [];
  if (policy.why) made.push(element("p", { class: "refusal", text: `Refused ${age(Math.max(0, now() - policy.why.at))}${now() - policy.why.at < 1 ? "" : " ago"}: ${whyText(policy.why)}` }));
  for (const reason of detail.health) made.push(element("p", { class: "warning", text: reason }));
  if (policy.time && Object.keys(policy.time).length) made.push(heading("Time spent in the last second"), ...ledger(policy.time));
  const refusals = Object.entries(detail.refusals);
  if (refusals.length) made.push(heading("Refusals by reason"), facts(refusals.map(([reason, count]) => [words(reason), num(count)])));
  if (detail.keys && detail.keys.length) made.push(heading("Keys that need a look"), facts(detail.keys.map((key) => [key.key, key.state ? words(key.state) : `${key.inflight} in flight`])));
  const latency = Object.entries(detail.latency);
  if (latency.length) made.push(heading("Latency since the start"), facts(latency.map(([name, value]) => [name, ms(value)])));
  made.push(heading("Numbers"), facts(Object.entries(detail.numbers).filter(([, value]) => value !== 0 && value !== false).map(([name, value]) => [words(name), typeof value === "number" ? num(value) : String(value)])));
  live.replaceChildren(...made);
}
function ledger(time) {
  const bar = element("div", { class: "stack wide", role: "img" });
  drawStack(bar, time);
  const total = Object.values(time).reduce((sum, value) => sum + value, 0);
  const legend = element("ul", { class: "legend" });
  SEGMENTS.forEach((name, at) => {
    if (time[name] > 0) legend.append(element("li", {}, element("i", { class: `s${at}` }), words(name), element("b", { text: `${Math.round(100 * time[name] / total)} %` })));
  });
  return [bar, legend];
}

function buildDetail(policy) {
  const made = [];
  if (detail.explain) made.push(...explained(detail.explain));
  made.push(...operations(policy), element("div", { id: "detail-live" }));
  if (detail.options) made.push(...options(policy));
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

const ASKS = {
  force_open: ["Force open", "Refuse every call until you say otherwise?"],
  force_closed: ["Force closed", "Let every call pass until you say otherwise?"],
  disable: ["Disable", "Let every call pass and learn nothing?"],
  reset: ["Reset", "Forget what it has learned?"],
  resume: ["Resume", "Let calls in again?"],
};
function operations(policy) {
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
    put(answer, response.ok ? `Done: ${words(data.done)}${data.state ? `, it is ${words(data.state)}` : ""}.` : `Refused: ${data.error}`);
    if (response.status === 401) { view.token = null; drawAll(); showToken("operate", "That token was refused. Token for operations"); }
    if (response.ok) refreshDetail();
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
function options(policy) {
  const able = store.operations && view.token && policy.ops.includes("reconfigure");
  const inputs = [];
  const list = element("dl", { class: "facts" });
  for (const option of detail.options) {
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

// ---- the stream ----------------------------------------------------------------------------------------------

const readHeaders = () => (view.readToken || view.token ? { authorization: `Bearer ${view.readToken || view.token}` } : {});
let connection = null, failures = 0, heardAt = 0, paused = false;

function setState(state, text) {
  root.dataset.state = state;
  put($("connection-text"), text);
}
async function follow() {
  while (!paused) {
    const controller = connection = new AbortController();
    let problem = "The connection was lost.";
    try {
      const headers = { accept: "text/event-stream", ...readHeaders(), ...(store.lastId ? { "last-event-id": store.lastId } : {}) };
      const response = await fetch("stream", { headers, signal: controller.signal, cache: "no-store" });
      if (response.status === 401) { setState("lost", "Locked"); return showToken("read", "Token for looking at this page"); }
      if (!response.ok) throw new Error((await response.json()).error || response.statusText);
      heardAt = Date.now();
      await read(response.body.getReader());
      problem = null; // the server ends a stream when it stops, or to have it begun anew
    } catch (error) { if (error.name !== "AbortError" && error.name !== "TypeError") problem = error.message; }
    if (paused) return;
    failures += 1;
    if (failures > 1) lost(problem || "The connection was closed.");
    await new Promise((done) => setTimeout(done, Math.min(5000, 200 * 2 ** failures) * (0.5 + Math.random() / 2)));
  }
}
async function read(reader) {
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    heardAt = Date.now();
    text += decoder.decode(value, { stream: true });
    let end;
    while ((end = text.indexOf("\n\n")) >= 0) { take(text.slice(0, end)); text = text.slice(end + 2); }
  }
}
function take(block) {
  let name = "message", data = "", id = null;
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) name = line.slice(7);
    else if (line.startsWith("data: ")) data += line.slice(6);
    else if (line.startsWith("id: ")) id = line.slice(4);
  }
  if (!data) return found();
  const parsedData = JSON.parse(data);
  if (name === "trouble") return lost(`The policies cannot be read: ${parsedData.error}`);
  if (name === "snapshot") { takeSnapshot(parsedData); drawAll(true); drawEvents(true); }
  else if (name === "delta") { takeDelta(parsedData); drawAll(); drawEvents(); }
  else return;
  if (id) store.lastId = id;
  store.at = Date.now();
  found();
  refreshDetail();
}
function found() {
  failures = 0;
  $("banner").hidden = true;
  setState("live", "Live");
}
function lost(problem) {
  setState("lost", store.at ? `Lost ${age((Date.now() - store.at) / 1000)}${Date.now() - store.at < 1000 ? "" : " ago"}` : "No connection");
  put($("banner"), `${problem} What you see is ${store.at ? `from ${clock.format(store.at)}` : "nothing yet"}; trying again.`);
  $("banner").hidden = false;
}
setInterval(() => {
  if (root.dataset.state === "live") {
    for (const row of view.visible) { const policy = store.policies.get(row.id); if (policy) row.drawSince(policy); }
    if (Date.now() - heardAt > SILENCE_MS && connection) { lost("Nothing has been heard for a while."); connection.abort(); }
  } else if (root.dataset.state === "lost" && store.at) put($("connection-text"), `Lost ${age((Date.now() - store.at) / 1000)} ago`);
}, 1000);

// A tab that nobody sees lets the server rest.
let hiding = null;
document.addEventListener("visibilitychange", () => {
  clearTimeout(hiding);
  if (document.hidden) hiding = setTimeout(() => { paused = true; if (connection) connection.abort(); setState("paused", "Paused"); }, HIDDEN_MS);
  else if (paused) { paused = false; failures = 0; follow(); }
});

// ---- tokens, theme, keys -------------------------------------------------------------------------------------

let tokenFor = "operate";
function showToken(purpose, why) {
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
