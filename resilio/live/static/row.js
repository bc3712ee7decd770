// One policy as a row of the table.
import { dress, element, put, svg } from "./dom.js";
import { drawStack } from "./ledger.js";
import { MINUTE, publish, store, view } from "./store.js";
import { age, chipOf, inMs, isWorried, kindOf, now, num, whyText, worthOf } from "./words.js";

export class RowView {
  constructor(id) {
    this.id = id;
    const cell = (name, label, ...children) => element("td", { class: name, role: "cell", ...(label ? { "data-label": label } : {}) }, ...children);
    this.chip = element("span", { class: "chip" });
    this.since = element("span", { class: "since" });
    this.button = element("button", { type: "button", onclick: () => publish("open", id) });
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
      calls_s: cell("num", "calls / s"), failures_s: cell("num", "failed / s"), rejected_s: cell("num", "rejected / s"),
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
    const head = store.policies.get(view.inside.get(this.id));
    this.node.classList.toggle("part", Boolean(head));
    this.node.classList.toggle("endpoint", Boolean(policy.endpoint));
    put(this.kind, policy.endpoint ? worthOf(policy.endpoint) : head ? `${kindOf(policy)} in ${head.name}` : kindOf(policy));
    const recent = policy.why && now() - policy.why.at < 10;
    put(this.why, recent ? whyText(policy.why) : "");
    dress(this.line, recent ? "rejected" : "");
    if (recent) this.line.title = `${kindOf(policy)}, rejected: ${whyText(policy.why)}`; else this.line.removeAttribute("title");
    this.drawSince(policy);
    this.drawLoad(policy);
    for (const [field, node] of Object.entries(this.cells)) {
      const value = policy[field];
      put(node, field[0] === "p" ? inMs(value) : num(value));
      const alarming = field === "rejected_s" ? " rejecting" : field === "failures_s" && value > 0.05 * policy.calls_s ? " failing" : "";
      dress(node, `num${value ? alarming : " zero"}`);
    }
    this.drawTrend();
    if (store.timed) drawStack(this.stack, policy.time);
    this.node.classList.toggle("open", view.open === this.id);
  }

  drawSince(policy) {
    let text = policy.since && !isWorried(policy) ? `for ${age(Math.max(1, now() - policy.since))}` : "";
    if (policy.opened) text += `${text && ", "}opened\u00a0${policy.opened}×`;
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

// Only rows on the screen are drawn: with hundreds of policies the others cost nothing.
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const row = entry.target.view;
    if (entry.isIntersecting) { view.visible.add(row); row.draw(); } else view.visible.delete(row);
  }
}, { rootMargin: "200px" });
