// The picture: inline SVG, kept true to the state.

/** @import { Edge, Service, State } from "./messages.d.ts" */
/** @import { Choose } from "./types.d.ts" */

import { byId, h, parts, setAll } from "../../../../_replica/http/static/elements.js";
import { bytes, compact } from "../../../../_replica/http/static/words.js";
import { labeller, SVG, writeLabel } from "./labels.js";
import { edgeWords, nodeWords } from "./sentences.js";

const LEAST = 0.9; // of its size; a picture that is wider than its place scrolls, since small text cannot be read
/** @type {Record<string, [number, number]>} */
const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * The inline SVG: kept true to the state; `choose(name)` is called when the user picks a node.
 *
 * @param {Choose} choose
 */
export function picture(choose) {
  const element = h("div.nbc-canvas", { role: "group", "aria-label": "Services: choose one to call it" });
  const label = labeller();
  let drawn = "";
  let chosen = "";
  /** @type {Service[]} */
  let known = [];

  /** @param {string} svg */
  function draw(svg) {
    const focused = element.contains(document.activeElement) ? document.activeElement?.id : "";
    const parsed = new DOMParser().parseFromString(svg, "image/svg+xml").documentElement;
    if (parsed.tagName !== "svg") return;
    parsed.querySelectorAll("script").forEach((script) => script.remove());
    parsed.removeAttribute("role"); // an image would hide its nodes from screen readers
    const drawing = document.importNode(parsed, true);
    drawing.style.minWidth = `${Math.round(Number(parsed.getAttribute("width")) * LEAST)}px`;
    element.replaceChildren(drawing);
    drawn = svg;
    label(drawing);
    if (focused) byId(element, focused)?.focus();
  }

  /** @param {Service} service */
  function paintService(service) {
    const group = byId(element, service.id);
    if (!group) return;
    const words = nodeWords(service);
    group.classList.toggle("nbc-busy", service.in_flight > 0);
    group.classList.toggle("nbc-chosen", service.name === chosen);
    setAll(group, {
      tabindex: "0",
      role: "button",
      "data-service": service.name,
      "aria-pressed": String(service.name === chosen),
      "aria-label": [service.name, service.state, service.phase, service.coming, service.reason, words]
        .filter(Boolean)
        .join(", "),
    });
    liveText(group, words || (service.state === "ready" ? "no calls yet" : ""));
    liveState(group, service);
  }

  /** @param {Edge} edge */
  function paintEdge(edge) {
    const group = byId(element, edge.id);
    if (!group) return;
    group.classList.toggle("nbc-active", edge.in_flight > 0);
    group.classList.toggle("nbc-flowing", edge.streaming > 0);
    const title = group.querySelector("title") ?? group.appendChild(document.createElementNS(SVG, "title"));
    const words = edgeWords(edge);
    if (title.textContent !== words) title.textContent = words;
    group.classList.toggle("nbc-near", edge.from === chosen || edge.to === chosen);
    writeLabel(group, edge.calls ? `${compact(edge.calls)} · ${bytes(edge.sent + edge.received)}` : "");
  }

  /** The node that an event is about. @param {Event} event @returns {SVGElement | null} */
  const nodeOf = (event) => (event.target instanceof Element ? event.target.closest("[data-service]") : null);

  /** @param {KeyboardEvent} event */
  function onKey(event) {
    const group = nodeOf(event);
    if (!group) return;
    if (event.key === "Enter" || event.key === " ") choose(group.dataset.service ?? "", { focus: true });
    else if (DIRECTIONS[event.key]) neighbour(element, group, DIRECTIONS[event.key])?.focus();
    else return;
    event.preventDefault();
  }

  element.addEventListener("keydown", onKey);
  element.addEventListener("click", (event) => {
    const name = nodeOf(event)?.dataset.service;
    if (name) choose(name);
  });
  return {
    element,
    /** @param {State} state @param {string} name the chosen one, or "" */
    paint(state, name) {
      chosen = name;
      known = state.services;
      if (state.svg !== drawn) draw(state.svg);
      known.forEach(paintService);
      state.edges.forEach(paintEdge);
    },
    /** @param {string} name */
    focus: (name) => parts(element, `[data-service="${CSS.escape(name)}"]`)[0]?.focus(),
  };
}

/** The line of a card that changes all the time. @param {Element} group @param {string} words */
function liveText(group, words) {
  const text = group.querySelector(":scope > text.nbc-numbers");
  if (text && text.textContent !== words) text.textContent = words;
}

/** A service that works says so in words, too. @param {Element} group @param {Service} service */
function liveState(group, service) {
  const [text] = parts(group, ":scope > text.nbc-words");
  if (!text) return;
  text.dataset.idle ??= text.textContent ?? "";
  const { idle } = text.dataset;
  const words = service.in_flight > 0 ? `${idle} · ${service.in_flight} under way` : idle;
  if (text.textContent !== words) text.textContent = words;
}

/** The nearest node in a direction. @param {Element} root @param {Element} from @param {[number, number]} direction */
function neighbour(root, from, [dx, dy]) {
  /** @param {Element} node */
  const center = (node) => {
    const box = node.getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
  };
  const [x, y] = center(from);
  /** @type {HTMLElement | null} */
  let best = null;
  let least = Infinity;
  for (const node of parts(root, "[data-service]")) {
    const [nx, ny] = center(node);
    const along = (nx - x) * dx + (ny - y) * dy;
    const aside = Math.abs((nx - x) * dy) + Math.abs((ny - y) * dx);
    if (along > 1 && along + 2 * aside < least) [best, least] = [node, along + 2 * aside];
  }
  return best;
}
