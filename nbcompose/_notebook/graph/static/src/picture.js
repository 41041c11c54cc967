// The picture: inline SVG, kept true to the state. Only what has changed is written.

/** @import { Edge, Service, State } from "./messages.d.ts" */
/** @import { Choose } from "./types.d.ts" */

import { h, part, parts, setAll } from "../../../../_replica/http/static/elements.js";
import { bytes, compact } from "../../../../_replica/http/static/words.js";
import { fittingParts, measureIn } from "./fitting.js";
import { labeller, SVG, writeLabel } from "./labels.js";
import { edgeWords, failedWords, nodeLabel, nodeParts, stateParts } from "./sentences.js";
import { zoomable } from "./zoom.js";

const MANY = 24; // services: Tab stops at one of them, not at each
const MARGIN = 12; // at the right of a card's texts
// As the picture's own rules have it (rendering.py): a drawing that is not in the page yet has no style to be asked.
const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'Helvetica Neue', Arial, sans-serif";
const inNumbers = measureIn(`11px ${FONT}`);
const inFailures = measureIn(`650 11px ${FONT}`); // graph.css
const inWords = measureIn(`550 12px ${FONT}`);
/** @type {Record<string, [number, number]>} */
const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * The inline SVG: kept true to the state; `choose(name)` is called when the user picks a node, `fold(name, on)` when
 * what is below one is to be left out or shown again.
 *
 * @param {Choose} choose
 * @param {(name: string, on: boolean) => void} fold
 */
export function picture(choose, fold) {
  const label = "Services: choose one to call it; arrows go from one to the next";
  const element = h("div.nbc-canvas", { role: "group", "aria-label": label, tabindex: "0" });
  const addLabels = labeller();
  const zoom = zoomable(element);
  let drawn = "";
  let chosen = "";
  /** @type {Set<string> | null} */
  let marked = null;
  /** @type {Map<string, SVGElement>} nodes and edges of the drawing, by id */
  let groups = new Map();
  /** @type {Map<string, SVGElement>} what folds, by service */
  let knobs = new Map();
  /** @type {Map<string, string>} what was last painted, by id */
  const painted = new Map();

  /** @param {string} svg */
  function draw(svg) {
    const parsed = new DOMParser().parseFromString(svg, "image/svg+xml").documentElement;
    if (parsed.tagName !== "svg") return;
    parsed.querySelectorAll("script").forEach((script) => script.remove());
    parsed.removeAttribute("role"); // an image would hide its nodes from screen readers
    const drawing = /** @type {SVGElement} */ (/** @type {Element} */ (document.importNode(parsed, true)));
    /** @type {SVGElement[]} */
    const all = parts(drawing, ".nbc-node, .nbc-edge");
    groups = new Map(all.map((group) => [group.id, group]));
    knobs = new Map(parts(drawing, "[data-fold]").map((knob) => [knob.dataset.fold ?? "", /** @type {any} */ (knob)]));
    painted.clear();
    zoom.hold(drawing);
    element.replaceChildren(drawing);
    drawn = svg;
    addLabels(drawing);
  }

  /** Whether something is painted for the first time, or otherwise than the last time. @param {string} id @param {any[]} now */
  function changes(id, ...now) {
    const text = JSON.stringify(now);
    if (painted.get(id) === text) return false;
    painted.set(id, text);
    return true;
  }

  /** @param {Service} service @param {number} number */
  function paintService(service, number) {
    const group = groups.get(service.id);
    if (!group) return;
    const { name, state, phase, coming, reason, in_flight } = service;
    const numbers = nodeParts(service);
    const knob = knobs.get(name);
    const isHit = marked?.has(name);
    const isStop = groups.size <= MANY || (chosen ? name === chosen : number === 0);
    if (!changes(service.id, numbers, state, phase, coming, reason, in_flight, name === chosen, isHit, isStop)) return;
    group.classList.toggle("nbc-busy", in_flight > 0);
    group.classList.toggle("nbc-chosen", name === chosen);
    group.classList.toggle("nbc-hit", isHit === true);
    group.classList.toggle("nbc-missed", isHit === false);
    const folded = knob?.classList.contains("nbc-folded") ? `${knob.textContent} folded below` : "";
    setAll(group, {
      tabindex: isStop ? "0" : "-1",
      role: "button",
      "data-service": name,
      "aria-pressed": String(name === chosen),
      "aria-label": nodeLabel(service, folded),
    });
    const idle = state === "ready" ? ["no calls yet"] : [];
    liveText(group, numbers.length ? numbers : idle, failedWords(service));
    liveState(group, service);
  }

  /** @param {Edge} edge */
  function paintEdge(edge) {
    const group = groups.get(edge.id);
    if (!group) return;
    const isNear = edge.from === chosen || edge.to === chosen;
    const { calls, in_flight, streaming, sent, received } = edge;
    if (!changes(edge.id, calls, in_flight, streaming, sent, received, isNear)) return;
    group.classList.toggle("nbc-active", in_flight > 0);
    group.classList.toggle("nbc-flowing", streaming > 0);
    const title = group.querySelector("title") ?? group.appendChild(document.createElementNS(SVG, "title"));
    const words = edgeWords(edge);
    if (title.textContent !== words) title.textContent = words;
    // Its number stands above all lines. Only once: what is moved begins its animation again.
    if (isNear && !group.classList.contains("nbc-near")) parts(element, ".nbc-edge").at(-1)?.after(group);
    group.classList.toggle("nbc-near", isNear);
    writeLabel(group, calls ? `${compact(calls)} · ${bytes(sent + received)}` : "");
  }

  /** The node that an event is about. @param {Event} event @returns {SVGElement | null} */
  const nodeOf = (event) => (event.target instanceof Element ? event.target.closest("[data-service]") : null);

  /** @param {string} name */
  function turn(name) {
    const knob = knobs.get(name);
    if (knob) fold(name, !knob.classList.contains("nbc-folded"));
  }

  /** @param {KeyboardEvent} event */
  function onKey(event) {
    const group = nodeOf(event);
    if (!group || event.ctrlKey || event.metaKey || event.altKey) return;
    const name = group.dataset.service ?? "";
    if (event.key === "Enter" || event.key === " ") choose(name, { focus: true });
    else if (event.key === "f") turn(name);
    else if (DIRECTIONS[event.key]) goTo(neighbour(element, group, DIRECTIONS[event.key]));
    else return;
    event.preventDefault();
  }

  /** @param {Element | null | undefined} node */
  function goTo(node) {
    if (!(node instanceof SVGElement)) return;
    node.focus({ preventScroll: true });
    zoom.show(node);
  }

  /** What is looked for, in this order, when the picture is another one. */
  function standing() {
    const nodes = [...groups.values()].filter((group) => group.dataset.service);
    return nodes.sort((a, b) => Number(b.dataset.service === chosen) - Number(a.dataset.service === chosen));
  }

  /** @param {string} name */
  const nodeNamed = (name) => parts(element, `[data-service="${CSS.escape(name)}"]`)[0];

  element.addEventListener("keydown", onKey);
  element.addEventListener("click", (event) => {
    const knob = event.target instanceof Element ? event.target.closest("[data-fold]") : null;
    const name = nodeOf(event)?.dataset.service;
    if (knob instanceof SVGElement) turn(knob.dataset.fold ?? "");
    else if (name) choose(name);
  });
  return {
    element,
    tools: zoom.tools,
    size: zoom.size,
    keepFit: zoom.keepFit,
    close: zoom.close,
    /** @param {State} state @param {string} name the chosen one, or "" */
    paint(state, name) {
      chosen = name;
      element.hidden = !state.services.length;
      const anew = state.svg !== drawn;
      const focused = anew && element.contains(document.activeElement) ? document.activeElement?.id : "";
      const held = anew ? zoom.held(standing()) : null;
      if (anew) draw(state.svg);
      const stays = held && groups.get(held.id);
      if (stays) zoom.keep(stays, held); // services that come move nothing of what one has scrolled to
      state.services.forEach(paintService);
      state.edges.forEach(paintEdge);
      // Once it is painted: before that, nothing of it can have the focus.
      if (focused) groups.get(focused)?.focus({ preventScroll: true });
    },
    /** Tell those that are looked for from others. @param {Set<string> | null} names */
    mark(names) {
      marked = names;
    },
    /** Whether it is drawn, and not folded away. @param {string} name */
    has: (name) => Boolean(nodeNamed(name)),
    folded: () => [...knobs].filter(([, knob]) => knob.classList.contains("nbc-folded")).map(([name]) => name),
    /** @param {string} name */
    focus: (name) => goTo(/** @type {any} */ (nodeNamed(name))),
    /** Bring a service into sight. @param {string} name */
    show(name) {
      const node = nodeNamed(name);
      if (node) zoom.show(node);
    },
  };
}

/** The room that a text of a card has. @param {Element} group @param {Element} text */
const roomFor = (group, text) =>
  Number(part(group, ".nbc-card").getAttribute("width")) - Number(text.getAttribute("x")) - MARGIN;

/**
 * The line of a card that changes all the time: as much of it as there is room for. What says that calls failed is told
 * from the rest by more than its colour.
 *
 * @param {Element} group
 * @param {string[]} numbers
 * @param {string} failed
 */
function liveText(group, numbers, failed) {
  const text = group.querySelector(":scope > text.nbc-numbers");
  if (!text) return;
  const [first = "", ...others] = fittingParts(numbers, roomFor(group, text), failed ? inFailures : inNumbers);
  const words = [first, ...others].join(" · ");
  if (text.textContent === words) return;
  if (!failed) {
    text.textContent = words;
    return;
  }
  const span = document.createElementNS(SVG, "tspan");
  span.setAttribute("class", "nbc-failures");
  span.textContent = first;
  text.replaceChildren(span, words.slice(first.length));
}

/**
 * What is said of its state, whole parts only: how it is, and as much of the rest as there is room for.
 *
 * @param {Element} group
 * @param {Service} service
 */
function liveState(group, service) {
  const [text] = parts(group, ":scope > text.nbc-words");
  if (!text) return;
  text.dataset.idle ??= text.textContent ?? "";
  const { idle } = text.dataset;
  const hasNumbers = group.querySelector(":scope > text.nbc-numbers") !== null;
  const words = fittingParts(stateParts(idle, service, hasNumbers), roomFor(group, text), inWords).join(" · ");
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
  return /** @type {Element | null} */ (best);
}
