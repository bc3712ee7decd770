// Building the page, by textContent and attributes alone: names of policies are data, never markup.

export const $ = (id) => document.getElementById(id);

export function element(name, options = {}, ...children) {
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
export function svg(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
export function put(node, text) { if (node.textContent !== text) node.textContent = text; }
export function dress(node, name) { if (node.className !== name) node.className = name; }

export function facts(pairs) {
  const list = element("dl", { class: "facts" });
  for (const [name, value] of pairs) list.append(element("dt", { text: name }), element("dd", {}, value));
  return list;
}
export const heading = (text) => element("h3", { text });
