// The stream of what changes: followed, lost, found again, and let go while nobody looks.
import { $, put } from "./dom.js";
import { clock } from "./events.js";
import { noteSilence, publish, store, subscribe, takeDelta, takeSnapshot } from "./store.js";
import { readHeaders } from "./token.js";
import { age } from "./words.js";

const SILENCE_MS = 12000;
const HIDDEN_MS = 60000;

const root = document.documentElement;
let connection = null, failures = 0, heardAt = 0, paused = false;

export function setState(state, text) {
  root.dataset.state = state;
  put($("connection-text"), text);
}
export async function follow() {
  while (!paused) {
    const controller = connection = new AbortController();
    let problem = "The connection was lost.";
    try {
      const headers = { accept: "text/event-stream", ...readHeaders(), ...(store.lastId ? { "last-event-id": store.lastId } : {}) };
      // Not an EventSource, which can send no Authorization.
      const response = await fetch("stream", { headers, signal: controller.signal, cache: "no-store" });
      if (response.status === 401) { setState("lost", "Locked"); return publish("token", { purpose: "read", why: "Token for looking at this page" }); }
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
  if (name === "snapshot") { takeSnapshot(parsedData); publish("news", { anew: true, removed: [], events: [] }); }
  else if (name === "delta") { if (root.dataset.state === "live") noteSilence(); takeDelta(parsedData); publish("news", { anew: false, removed: parsedData.removed, events: parsedData.events }); }
  else return;
  if (id) store.lastId = id;
  store.at = Date.now();
  found();
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
    noteSilence();
    publish("tick");
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
subscribe("readable", follow);
