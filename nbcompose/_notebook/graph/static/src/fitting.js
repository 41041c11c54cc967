// Texts of cards, as much of them as there is room for.

/** @typedef {(text: string) => number} Measure the width of a text, in the units of the room */

const BETWEEN = " · ";

/**
 * The first of these parts that fit one after the other: all of the first one at least, which is cut where it has to be.
 *
 * @param {string[]} parts
 * @param {number} room
 * @param {Measure} measure
 */
export function fittingParts(parts, room, measure) {
  let count = parts.length;
  while (count > 1 && measure(parts.slice(0, count).join(BETWEEN)) > room) count -= 1;
  return count > 1 ? parts.slice(0, count) : parts.slice(0, 1).map((part) => cut(part, room, measure));
}

/** @param {string} text @param {number} room @param {Measure} measure */
function cut(text, room, measure) {
  if (measure(text) <= room) return text;
  let kept = text;
  while (kept && measure(`${kept}…`) > room) kept = kept.slice(0, -1);
  return `${kept.replace(/[\s,·…]+$/, "")}…`;
}

/**
 * Measures text in a font, without having the page laid out.
 *
 * @param {string} font as in CSS
 * @returns {Measure}
 */
export function measureIn(font) {
  /** @type {CanvasRenderingContext2D | null} */
  let context = null;
  /** @type {Map<string, number>} */
  const known = new Map();
  return (text) => {
    const before = known.get(text);
    if (before !== undefined) return before;
    context ??= document.createElement("canvas").getContext("2d");
    if (!context) return 0;
    context.font = font;
    const { width } = context.measureText(text);
    if (known.size > 500) known.clear();
    known.set(text, width);
    return width;
  };
}
