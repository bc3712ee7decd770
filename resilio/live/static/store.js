// What is known of the policies, and what of them is looked at; views subscribe to news of it.

export const MINUTE = 60; // readings that a trend shows
const AWAY = 5; // readings not heard of after which a trend begins anew: what was not seen is not drawn

export const store = {
  boot: null, lastId: null, operations: false, interval: 1, process: null,
  policies: new Map(), trends: new Map(), events: [], skew: 0, at: 0, timed: false,
};
export const view = { filter: "", sort: "problems", open: null, token: null, readToken: null, order: [], rows: new Map(), visible: new Set(), inside: new Map() };

const listeners = {};
export function subscribe(topic, listener) { (listeners[topic] ||= []).push(listener); }
export function publish(topic, news) { for (const listener of listeners[topic] || []) listener(news); }

let notedAt = 0; // when the latest reading was heard of

export function takeSnapshot(data) {
  if (data.boot !== store.boot || Date.now() - notedAt > 1000 * AWAY * store.interval) store.trends.clear();
  Object.assign(store, { boot: data.boot, operations: Boolean(data.operations), interval: data.interval, process: data.process || null });
  if (data.process) store.skew = data.process.now - Date.now() / 1000;
  store.policies = new Map(data.policies.map((policy) => [policy.id, policy]));
  store.events = data.events.slice();
  noteAll();
}

export function takeDelta(data) {
  for (const id of data.removed) { store.policies.delete(id); store.trends.delete(id); }
  for (const news of data.changed) { // after those: of a watched process that was started anew, numbers come again
    const policy = store.policies.get(news.id);
    if (policy) Object.assign(policy, news); else store.policies.set(news.id, news);
  }
  store.events = store.events.concat(data.events).slice(-200);
  noteAll();
}

// A reading without news sends nothing: all is as it was, for one reading more.
export function noteSilence() {
  const silent = Math.round((Date.now() - notedAt) / (1000 * store.interval)) - 1;
  for (let left = Math.min(silent, MINUTE); left > 0; left -= 1) for (const policy of store.policies.values()) note(policy);
  if (silent > 0) notedAt += 1000 * store.interval * silent;
}

function noteAll() {
  notedAt = Date.now();
  for (const policy of store.policies.values()) note(policy);
}

function note(policy) {
  let trend = store.trends.get(policy.id);
  if (!trend) store.trends.set(policy.id, trend = []);
  trend.push([policy.calls_s || 0, (policy.failures_s || 0) + (policy.rejected_s || 0)]);
  if (trend.length > MINUTE) trend.shift();
  if (policy.time && Object.keys(policy.time).length) store.timed = true;
}
