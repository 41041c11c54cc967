// Where the labels of a picture find room.

/** @import { Box } from "./types.d.ts" */

/** @param {Box} a @param {Box} b */
const overlaps = (a, b) => a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;

const SHORT = 0.65; // of the width of a spot: what most texts take
const CARD = 100; // covering a card is as bad as covering so many dots of lines

/** The middle of a spot, where a short text stands. @param {Box} spot @returns {Box} */
const middleOf = (spot) => ({ ...spot, x: spot.x + (spot.width * (1 - SHORT)) / 2, width: spot.width * SHORT });

/**
 * One spot for each edge, of those that it wants, the best first: one where it covers no card, line, head or other
 * label. `crowded`: there is no such spot, and this one is the least bad: a short text in it covers fewest of the lines.
 *
 * @param {Box[]} taken cards and heads
 * @param {{line: Box[], wanted: Box[]}[]} edges `line`: boxes along it
 * @returns {(Box & {crowded: boolean})[]}
 */
export function chosenSpots(taken, edges) {
  const full = [...taken];
  return edges.map((edge) => {
    const spots = edge.wanted.filter((spot) => !full.some((box) => overlaps(box, spot)));
    const others = edges.filter((other) => other !== edge);
    const free = spots.find((spot) => !others.some(({ line }) => line.some((dot) => overlaps(dot, spot))));
    if (free) full.push(free);
    if (free) return { ...free, crowded: false };
    /** @param {Box[]} boxes @param {Box} spot */
    const covers = (boxes, spot) => boxes.filter((box) => overlaps(box, middleOf(spot))).length;
    /** @param {Box} spot */
    const covered = (spot) => CARD * covers(full, spot) + others.reduce((sum, { line }) => sum + covers(line, spot), 0);
    const [least] = edge.wanted.map((spot) => ({ spot, count: covered(spot) })).sort((a, b) => a.count - b.count);
    return { ...least.spot, crowded: true };
  });
}
