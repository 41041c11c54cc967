// Elements, and the words for numbers.

export const SVG = "http://www.w3.org/2000/svg";
let serial = 0;

/** Make an element; `on…` are listeners, null and false attributes are left out. */
export function h(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name || "div");
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((c) => c !== null && c !== undefined));
  return element;
}

/** Set attributes that are not so yet: what is set anew is styled anew. */
export function setAll(element, attributes) {
  for (const [key, value] of Object.entries(attributes)) {
    if (element.getAttribute(key) !== value) element.setAttribute(key, value);
  }
}

export const button = (text, onclick, attributes = {}) => h("button.nbc-button", { type: "button", onclick, ...attributes }, text);
export const byId = (root, id) => root.querySelector(`[id="${CSS.escape(id)}"]`);
export const fresh = () => `nbc-${Date.now().toString(36)}-${(serial += 1)}`;
export const compact = (n) => new Intl.NumberFormat("en", { notation: "compact" }).format(n);
export const plural = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;

export function bytes(n) {
  if (n === null || n === undefined) return "";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (n >= 1000 && unit < units.length - 1) [n, unit] = [n / 1000, unit + 1];
  return `${n < 10 && unit ? n.toFixed(1) : Math.round(n)} ${units[unit]}`;
}

export function time(seconds) {
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${(seconds * 1000).toFixed(seconds < 0.1 ? 1 : 0)} ms`;
  return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
}
