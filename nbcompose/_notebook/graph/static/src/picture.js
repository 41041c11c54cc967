// The picture: inline SVG, kept true to the state.

import { SVG, byId, bytes, compact, h, plural, setAll, time } from "./elements.js";
import { labeller, writeLabel } from "./labels.js";

const LEAST = 0.9; // of its size; a picture that is wider than its place scrolls, since small text cannot be read
const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** The inline SVG: kept true to the state; `choose(name)` is called when the user picks a node. */
export function picture(choose) {
  const element = h("div.nbc-canvas", { role: "group", "aria-label": "Services: choose one to call it" });
  const label = labeller();
  let drawn = "";
  let chosen = "";
  let known = [];

  function draw(svg) {
    const focused = element.contains(document.activeElement) ? document.activeElement.id : "";
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
      "aria-label": [service.name, service.state, service.phase, service.coming, service.reason, words].filter(Boolean).join(", "),
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
    const words = `${edge.from} → ${edge.to}: ${plural(edge.calls, "call")}, ${edge.in_flight} under way, `
      + `${bytes(edge.sent)} sent, ${bytes(edge.received)} received`;
    if (title.textContent !== words) title.textContent = words;
    group.classList.toggle("nbc-near", edge.from === chosen || edge.to === chosen);
    writeLabel(group, edge.calls ? `${compact(edge.calls)} · ${bytes(edge.sent + edge.received)}` : "");
  }

  function onKey(event) {
    const group = event.target.closest?.("[data-service]");
    if (!group) return;
    if (event.key === "Enter" || event.key === " ") choose(group.dataset.service, { focus: true });
    else if (DIRECTIONS[event.key]) neighbour(element, group, DIRECTIONS[event.key])?.focus();
    else return;
    event.preventDefault();
  }

  element.addEventListener("keydown", onKey);
  element.addEventListener("click", (event) => {
    const group = event.target.closest?.("[data-service]");
    if (group) choose(group.dataset.service);
  });
  return {
    element,
    paint(state, name) {
      chosen = name;
      known = state.services;
      if (state.svg !== drawn) draw(state.svg);
      known.forEach(paintService);
      state.edges.forEach(paintEdge);
    },
    focus: (name) => element.querySelector(`[data-service="${CSS.escape(name)}"]`)?.focus(),
  };
}

/** @param {Service} service */
export function nodeWords(service) {
  const parts = [];
  if (service.rate > 0) parts.push(`${service.rate}/s`);
  else if (service.calls) parts.push(plural(service.calls, "call"));
  if (service.p50_ms !== null) parts.push(`p50 ${time(service.p50_ms / 1000)}`);
  if (service.memory) parts.push(bytes(service.memory));
  return parts.join(" · ");
}

/** The line of a card that changes all the time. */
function liveText(group, words) {
  const text = group.querySelector(":scope > text.nbc-numbers");
  if (text && text.textContent !== words) text.textContent = words;
}

/** A service that works says so in words, too. */
function liveState(group, service) {
  const text = group.querySelector(":scope > text.nbc-words");
  if (!text) return;
  text.dataset.idle ??= text.textContent;
  const words = service.in_flight > 0 ? `${text.dataset.idle} · ${service.in_flight} under way` : text.dataset.idle;
  if (text.textContent !== words) text.textContent = words;
}

/** The nearest node in a direction. */
function neighbour(root, from, [dx, dy]) {
  const center = (node) => {
    const box = node.getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
  };
  const [x, y] = center(from);
  let best = null;
  let least = Infinity;
  for (const node of root.querySelectorAll("[data-service]")) {
    const [nx, ny] = center(node);
    const along = (nx - x) * dx + (ny - y) * dy;
    const aside = Math.abs((nx - x) * dy) + Math.abs((ny - y) * dx);
    if (along > 1 && along + 2 * aside < least) [best, least] = [node, along + 2 * aside];
  }
  return best;
}
