// Where the time went: the parts of a bar, and their legend.
import { dress, element } from "./dom.js";
import { words } from "./words.js";

const SEGMENTS = ["queue", "rate_limit", "attempt", "connect", "first_byte", "body", "retry_sleep", "hedge", "fallback", "own"];

const seen = new Set();

export function drawStack(node, time) {
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

// What the colours of all bars stand for; a segment that was there once stays.
export function drawLegend(node, policies) {
  for (const { time } of policies) for (const name in time) if (time[name] > 0) seen.add(name);
  if (node.children.length === seen.size) return;
  const shown = SEGMENTS.map((name, at) => [name, at]).filter(([name]) => seen.has(name));
  node.replaceChildren(...shown.map(([name, at]) => element("li", {}, element("i", { class: `s${at}` }), words(name))));
  node.hidden = !shown.length;
}

export function ledger(time) {
  const bar = element("div", { class: "stack wide", role: "img" });
  drawStack(bar, time);
  const total = Object.values(time).reduce((sum, value) => sum + value, 0);
  const legend = element("ul", { class: "legend" });
  SEGMENTS.forEach((name, at) => {
    if (time[name] > 0) legend.append(element("li", {}, element("i", { class: `s${at}` }), words(name), element("b", { text: `${Math.round(100 * time[name] / total)} %` })));
  });
  return [bar, legend];
}
