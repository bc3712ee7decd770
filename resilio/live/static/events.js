// What has happened: the list, and what screen readers are told.
import { $, element, put } from "./dom.js";
import { store, subscribe } from "./store.js";
import { num, tone, words } from "./words.js";

export const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
let newestShown = 0;
function eventNode(event) {
  const when = new Date((event.at - store.skew) * 1000);
  const node = element("li", {}, element("time", { datetime: when.toISOString(), text: clock.format(when) }), element("b", { text: event.name || words(event.kind) }));
  const key = event.key ? ` ${event.kind === "pool" ? "endpoint" : "key"} ${event.key}` : "";
  if (event.what === "state" || event.what === "sharing") {
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
let announced = 0, timer = null, changes = [];
function announce(events) {
  changes.push(...events.filter((event) => event.what === "state"));
  if (changes.length && timer === null) timer = setTimeout(say, Math.max(0, announced + 3000 - Date.now()));
}
function say() {
  announced = Date.now();
  const said = changes.slice(0, 3).map((event) => `${event.name || words(event.kind)} is ${words(event.new)}`);
  if (changes.length > 3) said.push(`and ${changes.length - 3} more changes`);
  put($("announce"), said.join(", "));
  timer = null;
  changes = [];
}
subscribe("news", ({ anew, events }) => { announce(events); drawEvents(anew); });
