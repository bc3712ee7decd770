// What the numbers and states of a policy mean, in words.
import { store } from "./store.js";

const STATES = {
  closed: "ok", admitting: "ok", normal: "ok", serving: "ok", open: "bad", forced_open: "bad", closed_down: "bad",
  draining: "bad", drained: "bad", half_open: "warn", overloaded: "warn", low: "warn", spent: "bad", forced_closed: "info", disabled: "info",
  well: "ok", ejected: "bad", probing: "warn", warming: "info", drained_by_hand: "info",
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

// What a pool chooses an endpoint by.
export function worthOf({ level, zone, weight, share, latency, price }) {
  const parts = [`level ${level}`];
  if (zone) parts.push(zone);
  if (weight !== 1) parts.push(`weight ${num(weight)}`);
  if (share < 1) parts.push(`share\u00a0${Math.round(100 * share)}\u00a0%`);
  if (latency !== null) parts.push(ms(latency));
  if (price !== null) parts.push(`price ${ms(price)}`);
  return parts.join(", ");
}
export const kindOf = (policy) => words(policy.of ? `${policy.kind} ${policy.of}` : policy.kind) + spendText(policy.spend) + sharedText(policy.shared);
// How much of its money a spend limit has left.
const spendText = (spend) => (spend ? `, ${num(spend.left)} of ${num(spend.limit)} ${spend.currency} left` : "");
// How many processes of the host have it together, and what; or why this one has its own.
function sharedText(shared) {
  if (!shared) return "";
  if (shared.degraded) return `, not shared: ${words(shared.degraded)}`;
  const who = shared.fleet ? "asker" : "worker";
  const regime = shared.regime ? `, ${words(shared.regime)}` : "";
  return `, ${shared.peers} ${who}${shared.peers === 1 ? "" : "s"}${regime}${ofAll(shared)}`;
}
function ofAll(shared) {
  if (shared.used !== null) return `: ${num(shared.used)} in flight`;
  if (shared.tokens !== null) return `: ${num(shared.tokens)} tokens`;
  return shared.state ? `: ${words(shared.state)}` : "";
}
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
  if (why.scope === "host") text += " of the host";
  if (why.retry_after !== null) text += `, retry after ${why.retry_after < 1 ? ms(why.retry_after * 1000) : age(why.retry_after)}`;
  if (why.key) text += ` (key ${why.key})`;
  return text;
}
