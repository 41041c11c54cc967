// Elements.

/** @import { Attributes, ElementOf } from "./types.d.ts" */

let serial = 0;

/**
 * Make an element; `on…` are listeners, null and false attributes are left out.
 *
 * @template {string} T
 * @param {T} tag as in "div.class"
 * @param {Attributes} attributes
 * @param {(string | Node | null | undefined)[]} children
 * @returns {ElementOf<T>}
 */
export function h(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name || "div");
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), /** @type {EventListener} */ (value));
    else if (value === true) element.setAttribute(key, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, String(value));
  }
  element.append(...children.filter((c) => c !== null && c !== undefined));
  return /** @type {ElementOf<T>} */ (element);
}

/**
 * Set attributes that are not so yet: what is set anew is styled anew.
 *
 * @param {Element} element
 * @param {Record<string, string>} attributes
 */
export function setAll(element, attributes) {
  for (const [key, value] of Object.entries(attributes)) {
    if (element.getAttribute(key) !== value) element.setAttribute(key, value);
  }
}

/** @param {string} text @param {(event: MouseEvent) => void} onclick @param {Attributes} attributes */
export const button = (text, onclick, attributes = {}) =>
  h("button.nbc-button", { type: "button", onclick, ...attributes }, text);

/** @param {Element} root @param {string} id @returns {(HTMLElement | SVGElement) | null} */
export const byId = (root, id) => root.querySelector(`[id="${CSS.escape(id)}"]`);

/**
 * The part of an element that is always there.
 *
 * @template {Element} [E=HTMLElement]
 * @param {Element} root
 * @param {string} selector
 * @returns {E}
 */
export const part = (root, selector) => /** @type {E} */ (root.querySelector(selector));

/** An id that no other has. */
export function fresh() {
  serial += 1;
  return `nbc-${Date.now().toString(36)}-${serial}`;
}

/**
 * All parts of an element that a selector finds.
 *
 * @template {Element} [E=HTMLElement]
 * @param {ParentNode} root
 * @param {string} selector
 * @returns {E[]}
 */
export const parts = (root, selector) => /** @type {E[]} */ ([...root.querySelectorAll(selector)]);
