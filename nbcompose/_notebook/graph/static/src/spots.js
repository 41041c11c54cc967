// Where the labels of a picture find room.

/** @import { Box } from "./types.d.ts" */

/** @param {Box} a @param {Box} b */
const overlaps = (a, b) => a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;

/**
 * One spot for each edge, of those that it wants, the best first: one where it covers no card, line, head or other
 * label. `crowded`: there is no such spot, and this one is the least bad.
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
    return { ...(free ?? spots[0] ?? edge.wanted[0]), crowded: !free };
  });
}
