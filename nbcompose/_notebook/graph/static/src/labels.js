// The numbers beside the edges of the picture: where they stand, and which are shown where there is little room.

import { SVG } from "./elements.js";

const WIDTH = 68; // that a label may have: "999K · 9.9 MB"
const HEIGHT = 12;
const ALONG = [0.46, 0.36, 0.56, 0.27, 0.66, 0.18, 0.75];

const overlaps = (a, b) => a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;

/** What gives each edge of a picture an empty label, in a place where it covers no card, line, head or other label;
 *  those for which there is no such place show only while their service is chosen (`nbc-crowded`). */
export function labeller() {
  let known = "";
  let places = [];
  return (svg) => {
    const edges = [...svg.querySelectorAll(".nbc-edge")];
    const nodes = [...svg.querySelectorAll(".nbc-node")];
    // Looking for places is most of the work of a drawing, and things seldom move.
    const paths = edges.map((e) => e.querySelector("path").getAttribute("d"));
    const now = [...nodes.map((n) => n.getAttribute("transform")), ...paths].join();
    if (now !== known) [known, places] = [now, placesOf(edges, nodes)];
    edges.forEach((edge, i) => edge.append(label(places[i])));
  };
}

/** @returns {{x: number, y: number, width: number, height: number, crowded: boolean}[]} one for each edge */
function placesOf(edges, nodes) {
  const taken = nodes.map(cardBox);
  taken.push(...edges.map((edge) => edge.querySelector(".nbc-head").getBBox()));
  const lines = new Map(edges.map((edge) => [edge, dots(edge.querySelector("path"))]));
  return edges.map((edge) => {
    const all = candidates(edge.querySelector("path"));
    const spots = all.filter((spot) => !taken.some((box) => overlaps(box, spot)));
    const crossed = (spot) => edges.some((other) => other !== edge && lines.get(other).some((dot) => overlaps(dot, spot)));
    const free = spots.find((spot) => !crossed(spot));
    if (free) taken.push(free);
    return { ...(free ?? spots[0] ?? all[0]), crowded: !free };
  });
}

export function writeLabel(edge, words) {
  const text = edge.querySelector(":scope > text.nbc-amount");
  if (text && text.textContent !== words) text.textContent = words;
}

function cardBox(node) {
  const [x, y] = node.getAttribute("transform").match(/-?[\d.]+/g).map(Number);
  const card = node.querySelector(".nbc-card");
  return { x, y, width: Number(card.getAttribute("width")), height: Number(card.getAttribute("height")) };
}

/** Where a line goes. */
function dots(path) {
  const length = path.getTotalLength();
  return Array.from({ length: 16 }, (_, i) => {
    const { x, y } = path.getPointAtLength((length * (i + 1)) / 17);
    return { x: x - 1, y: y - 1, width: 2, height: 2 };
  });
}

/** On the line where it is steep, above and below it where it is not. */
function candidates(path) {
  const length = path.getTotalLength();
  return ALONG.flatMap((part) => {
    const at = path.getPointAtLength(length * part);
    const on = path.getPointAtLength(length * part + 1);
    const flat = Math.abs(on.y - at.y) < 0.5 * Math.abs(on.x - at.x);
    const middles = flat ? [at.y - 10, at.y + 12] : [at.y];
    return middles.map((y) => ({ x: at.x - WIDTH / 2, y: y - HEIGHT / 2, width: WIDTH, height: HEIGHT }));
  });
}

function label(box) {
  const text = document.createElementNS(SVG, "text");
  text.setAttribute("class", box.crowded ? "nbc-amount nbc-crowded" : "nbc-amount");
  text.setAttribute("text-anchor", "middle");
  text.setAttribute("x", box.x + box.width / 2);
  text.setAttribute("y", box.y + box.height - 3);
  return text;
}
