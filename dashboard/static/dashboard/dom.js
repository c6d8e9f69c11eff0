// Everything the page shows is put together here, as text nodes: never as markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element; children that are empty, null or false are left out. */
export function el(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children.filter((child) => child instanceof Node || child));
  return node;
}

export function svg(tag, attributes = {}) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

export function icon(name) {
  const node = svg("svg", { class: "icon", "aria-hidden": "true" });
  node.append(svg("use", { href: `#i-${name}` }));
  return node;
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const signatures = new WeakMap();

/** Rebuild a node's children only when what they show has changed. */
export function fill(node, signature, build) {
  if (signatures.get(node) === signature) return;
  signatures.set(node, signature);
  node.replaceChildren(...[build()].flat());
}

/** The mark of figures that come from the simulator. */
export function simulatedMark() {
  const mark = el("span", "sim", icon("flask"), el("span", "visually-hidden", "simulated"));
  mark.title = "Simulated: answered by the simulator, not by a real model";
  return mark;
}

/** An icon with its word: a state is never told by colour alone. */
export function stateMark(state, word, iconName = state) {
  return el("span", `state state-${state}`, icon(iconName), el("span", "", word));
}
