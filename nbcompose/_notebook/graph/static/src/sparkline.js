// A small line of numbers over time.

import { h } from "../../../../_replica/http/static/elements.js";
import { SVG } from "./labels.js";

const WIDE = 160;
const HIGH = 28;

/**
 * The path of a line through values from 0 to `most`; where one is not known, the line is broken, and one that is known
 * alone is a dot.
 *
 * @param {(number | null)[]} values
 * @param {number} most
 * @param {number} width
 * @param {number} height
 */
export function linePath(values, most, width, height) {
  const step = values.length > 1 ? width / (values.length - 1) : 0;
  /** @param {number} n */
  const place = (n) => Math.round(n * 10) / 10;
  let path = "";
  values.forEach((value, at) => {
    if (value === null) return;
    const starts = at === 0 || values[at - 1] === null;
    const y = most > 0 ? height - (Math.min(value, most) / most) * height : height;
    path += `${starts ? "M" : "L"}${place(at * step)},${place(y)}`;
    if (starts && (at + 1 === values.length || values[at + 1] === null)) path += "h.1";
  });
  return path;
}

/**
 * A line with what it is of, what it is now, and the most that it was.
 *
 * @param {string} name
 * @param {(number | null)[]} values
 * @param {(value: number) => string} words
 * @param {{limit?: number, last?: number | null}} [more] `limit` is drawn as a line of its own; `last`: what it is now
 */
export function sparkline(name, values, words, { limit = 0, last = values.at(-1) ?? null } = {}) {
  const known = values.filter((v) => v !== null);
  const most = Math.max(...known, limit, 0);
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `-1 -2 ${WIDE + 2} ${HIGH + 4}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  if (limit) svg.append(path("nbc-limit", linePath([limit, limit], most, WIDE, HIGH)));
  svg.append(path("nbc-spark", linePath(values, most, WIDE, HIGH)));
  const now = last === null ? "–" : words(last);
  const peak = known.length ? `at most ${words(Math.max(...known))}` : "nothing in 10 minutes";
  const title = `${name}: now ${now}; ${peak}`;
  return h(
    "figure.nbc-sparkline",
    { title, "aria-label": title, role: "img" },
    h("figcaption", {}, h("span.nbc-dim", {}, name), h("b", {}, now)),
    svg,
    h("div.nbc-dim", {}, peak),
  );
}

/** @param {string} look @param {string} d */
function path(look, d) {
  const element = document.createElementNS(SVG, "path");
  element.setAttribute("class", look);
  element.setAttribute("d", d);
  return element;
}
