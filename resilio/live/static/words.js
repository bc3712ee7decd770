// What the numbers and states of a policy mean, in words.
import { store } from "./store.js";

const STATES = {
  closed: "ok", admitting: "ok", normal: "ok", serving: "ok", open: "bad", forced_open: "bad", closed_down: "bad",
  draining: "bad", drained: "bad", half_open: "warn", overloaded: "warn", forced_closed: "info", disabled: "info",
};
export const tone = (state) => STATES[state] || "none";
export const words = (text) => String(text).replaceAll("_", " ");

export function states(policy) {
  if (policy.state && typeof policy.state === "object") return Object.entries(policy.state);
  return policy.state ? [[policy.state, 1]] : [];
}

export function severity(policy) {
  if (policy.trouble || states(policy).some(([state, count]) => count && tone(state) === "bad")) return 3;
  if (policy.rejected_s > 0 || states(policy).some(([state, count]) => count && tone(state) === "warn")) return 2;
  if (policy.calls_s > 0 && policy.failures_s / policy.calls_s > 0.05) return 1;
  return 0;
}

export function chipOf(policy) {
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

export const kindOf = (policy) => words(policy.of ? `${policy.kind} ${policy.of}` : policy.kind);
export const now = () => Date.now() / 1000 + store.skew;
export function age(seconds) {
  if (seconds < 1) return "now";
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}
export function num(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)}M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(1)}k`;
  if (value >= 10 || Number.isInteger(value)) return String(Math.round(value));
  return String(Number(value.toFixed(value >= 1 ? 1 : 2)));
}
export function ms(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 10000) return `${(value / 1000).toFixed(1)} s`;
  if (value >= 1000) return `${(value / 1000).toFixed(2)} s`;
  if (value >= 100) return `${Math.round(value)} ms`;
  if (value >= 1) return `${value.toFixed(1)} ms`;
  return `${Math.round(value * 1000)} µs`;
}
export function inMs(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1e5) return `${Math.round(value / 1000)} s`;
  return value >= 100 ? String(Math.round(value)) : String(Number(value.toFixed(value >= 1 ? 1 : 2)));
}
export function whyText(why) {
  let text = words(why.reason);
  if (why.measured !== null && why.limit !== null) text += `: ${num(why.measured)} against ${num(why.limit)}`;
  else if (why.measured !== null) text += `: ${num(why.measured)}`;
  if (why.retry_after !== null) text += `, retry after ${why.retry_after < 1 ? ms(why.retry_after * 1000) : age(why.retry_after)}`;
  if (why.key) text += ` (key ${why.key})`;
  return text;
}
