// The numbers beside the edges of the picture: where they stand, and which are shown where there is little room.

/** @import { Box } from "./types.d.ts" */

import { part, parts } from "../../../../_replica/http/static/elements.js";
import { chosenSpots } from "./spots.js";

export const SVG = "http://www.w3.org/2000/svg";

const WIDTH = 68; // that a label may have: "999K · 9.9 MiB"
const HEIGHT = 12;
const APART = 8; // of dots on a line: a label may not stand between two of them
const MOST_DOTS = 64;
const MOST = 60; // edges: looking for places takes the square of their number, and there would be room for few
const ALONG = [0.46, 0.36, 0.56, 0.27, 0.66, 0.18, 0.75];

/**
 * What gives each edge of a picture an empty label, in a place where it covers no card, line, head or other label;
 * those for which there is no such place show only while their service is chosen (`nbc-crowded`).
 */
export function labeller() {
  let known = "";
  /** @type {ReturnType<typeof placesOf>} */
  let places = [];
  /** @param {Element} svg */
  return (svg) => {
    /** @type {SVGElement[]} */
    const edges = parts(svg, ".nbc-edge");
    /** @type {SVGElement[]} */
    const nodes = parts(svg, ".nbc-node");
    // Looking for places is most of the work of a drawing, and things seldom move.
    const paths = edges.map((e) => lineOf(e).getAttribute("d"));
    const now = [...nodes.map((n) => n.getAttribute("transform")), ...paths].join();
    if (now !== known) [known, places] = [now, placesOf(edges, nodes)];
    edges.forEach((edge, i) => edge.append(label(places[i])));
  };
}

/** @param {SVGElement[]} edges @param {SVGElement[]} nodes */
function placesOf(edges, nodes) {
  if (edges.length > MOST) return edges.map((edge) => ({ ...candidates(lineOf(edge), [0.5])[0], crowded: true }));
  const heads = edges.map((edge) => /** @type {SVGGraphicsElement} */ (part(edge, ".nbc-head")).getBBox());
  const lines = edges.map(lineOf);
  return chosenSpots(
    [...nodes.map(cardBox), ...heads],
    lines.map((line) => ({ line: dots(line), wanted: candidates(line) })),
  );
}

/** @param {SVGElement} edge @returns {SVGPathElement} */
const lineOf = (edge) => part(edge, "path");

/** @param {Element} edge @param {string} words */
export function writeLabel(edge, words) {
  const text = edge.querySelector(":scope > text.nbc-amount");
  if (text && text.textContent !== words) text.textContent = words;
}

/** @param {SVGElement} node */
function cardBox(node) {
  const [x, y] = (node.getAttribute("transform") ?? "").match(/-?[\d.]+/g)?.map(Number) ?? [0, 0];
  const card = part(node, ".nbc-card");
  return { x, y, width: Number(card.getAttribute("width")), height: Number(card.getAttribute("height")) };
}

/** Where a line goes. @param {SVGPathElement} path */
export function dots(path) {
  const length = path.getTotalLength();
  const count = Math.min(MOST_DOTS, Math.ceil(length / APART));
  return Array.from({ length: count }, (_, i) => {
    const { x, y } = path.getPointAtLength((length * (i + 1)) / (count + 1));
    return { x: x - 1, y: y - 1, width: 2, height: 2 };
  });
}

/** On the line where it is steep, above and below it where it is not, within the picture. @param {SVGPathElement} path */
export function candidates(path, along = ALONG) {
  const length = path.getTotalLength();
  const right = (path.ownerSVGElement?.viewBox.baseVal.width || Number.POSITIVE_INFINITY) - WIDTH;
  /** @param {number} x */
  const within = (x) => Math.max(0, Math.min(x - WIDTH / 2, right));
  return along.flatMap((part) => {
    const at = path.getPointAtLength(length * part);
    const on = path.getPointAtLength(length * part + 1);
    const flat = Math.abs(on.y - at.y) < 0.5 * Math.abs(on.x - at.x);
    const middles = flat ? [at.y - 10, at.y + 12] : [at.y];
    return middles.map((y) => ({ x: within(at.x), y: y - HEIGHT / 2, width: WIDTH, height: HEIGHT }));
  });
}

/** @param {Box & {crowded: boolean}} box */
function label(box) {
  const text = document.createElementNS(SVG, "text");
  text.setAttribute("class", box.crowded ? "nbc-amount nbc-crowded" : "nbc-amount");
  text.setAttribute("text-anchor", "middle");
  text.setAttribute("x", String(box.x + box.width / 2));
  text.setAttribute("y", String(box.y + box.height - 3));
  return text;
}
