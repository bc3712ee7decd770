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

const RANK = { bad: 0, warn: 1, info: 2, none: 3, ok: 4 };
const unusual = (policy) => states(policy).filter(([state, count]) => count && tone(state) !== "ok").sort((a, b) => RANK[tone(a[0])] - RANK[tone(b[0])]);

// What is wrong with a policy in its usual state.
function worry(policy) {
  if (policy.rejected_s > 0) return "rejecting";
  const failing = policy.calls_s > 0 ? policy.failures_s / policy.calls_s : 0;
  return failing > 0.05 ? `${Math.round(100 * failing)} % failing` : "";
}

export function severity(policy) {
  const worst = unusual(policy).map(([state]) => tone(state))[0];
  if (policy.trouble || worst === "bad") return 3;
  if (policy.rejected_s > 0 || worst === "warn") return 2;
  return worry(policy) ? 1 : 0;
}

// The unusual state; of a policy in its usual one what is wrong, or one word for all kinds.
export function chipOf(policy) {
  if (policy.trouble) return ["bad", policy.trouble];
  const [worst] = unusual(policy);
  if (worst) {
    const total = states(policy).reduce((sum, [, count]) => sum + count, 0);
    return [tone(worst[0]), `${policy.kind === "keyed" ? `${worst[1]} of ${total} ` : ""}${words(worst[0])}`];
  }
  if (worry(policy)) return ["warn", worry(policy)];
  if (policy.kind !== "keyed") return ["ok", "healthy"];
  return policy.keys ? ["ok", `all ${num(policy.keys)} healthy`] : ["none", "no keys"];
}
export const isWorried = (policy) => !unusual(policy).length && Boolean(worry(policy));

export const kindOf = (policy) => words(policy.of ? `${policy.kind} ${policy.of}` : policy.kind) + sharedText(policy.shared);
// How many processes of the host have it together, or why this one has its own.
const sharedText = (shared) => !shared ? "" : shared.degraded ? `, not shared: ${words(shared.degraded)}` : `, ${shared.peers} ${shared.peers === 1 ? "worker" : "workers"}`;
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
