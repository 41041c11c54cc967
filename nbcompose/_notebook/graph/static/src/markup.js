// HTML that an api returned. It may hold text of anybody's, so that none of its scripts run, whatever the notebook's
// trust: plain markup, as a DataFrame's, stands in the page; anything more, in a frame of its own.

/** @import { Bundle } from "./messages.d.ts" */

import { h, setAll } from "../../../../_replica/http/static/elements.js";
import { shown } from "../../../../_replica/http/static/result.js";

const ELEMENTS = new Set(
  (
    "a b blockquote br caption code col colgroup dd div dl dt em h1 h2 h3 h4 h5 h6 hr i li ol p pre s small span "
    + "strong sub sup table tbody td tfoot th thead tr u ul"
  ).split(" "),
);
const ATTRIBUTES = new Set([
  "align",
  "border",
  "class",
  "colspan",
  "dir",
  "lang",
  "rowspan",
  "scope",
  "title",
  "valign",
]);

/** A mime bundle as a notebook shows it, with its HTML. @param {Bundle} bundle */
export const rendered = (bundle) => (bundle["text/html"] ? markup(bundle["text/html"]) : shown(bundle));

/** @param {string} html */
function markup(html) {
  const parsed = new DOMParser().parseFromString(html, "text/html"); // runs and loads nothing
  // What pandas says of its tables' cells, JupyterLab says too.
  parsed.querySelectorAll("style[scoped]").forEach((style) => style.remove());
  const all = [...parsed.body.querySelectorAll("*")];
  /** @param {Element} e */
  const known = (e) => ELEMENTS.has(e.localName) && Boolean(e.namespaceURI?.endsWith("/xhtml"));
  const isPlain = !parsed.head.childElementCount && all.every(known);
  return isPlain ? h("div.nbc-html.jp-RenderedHTMLCommon", {}, ...copies(parsed.body)) : frame(html);
}

/** New elements for all within `parent`, with the attributes that do nothing. @param {Node} parent @returns {Node[]} */
function copies(parent) {
  return [...parent.childNodes]
    .filter((node) => node instanceof Text || node instanceof Element)
    .map((node) => {
      if (node instanceof Text) return document.createTextNode(node.data);
      const attributes = [...node.attributes].filter((a) => ATTRIBUTES.has(a.name)).map((a) => [a.name, a.value]);
      const element = h(node.localName, Object.fromEntries(attributes), ...copies(node));
      const href = node.getAttribute("href") ?? "";
      if (/^https?:/i.test(href)) setAll(element, { href, target: "_blank", rel: "noopener noreferrer" });
      return element;
    });
}

/** A frame without scripts, forms and ways out, as high as what it holds. @param {string} html */
function frame(html) {
  const element = h("iframe.nbc-html.nbc-frame", { sandbox: "allow-same-origin", title: "the result", srcdoc: html });
  element.addEventListener("load", () => {
    const page = element.contentDocument;
    if (!page) return;
    const { color, fontFamily, fontSize } = getComputedStyle(element);
    Object.assign(page.body.style, { color, fontFamily, fontSize, margin: "0" });
    element.style.height = `${Math.min(page.documentElement.scrollHeight + 4, 600)}px`;
  });
  return element;
}
