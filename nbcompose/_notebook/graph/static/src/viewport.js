// Zoom and pan: which part of a picture stands in its place, and how large. Pure functions; lengths are CSS pixels.

/** @import { Extent, Glance, Spot } from "./types.d.ts" */

const LEAST_SCALE = 0.1;
const MOST_SCALE = 3;
const PANEL = 420; // width of a panel beside the picture, with the gap
const ENOUGH = 800; // of a picture's width, for text that can be read
const READABLE = 0.75; // the scale below which text cannot be read
const WIDTHS = { least: 160, most: 940, step: 20 }; // widths for which a picture is laid out

export const STEP = 1.25; // of one press of a button or key

/** @param {number} scale */
export const bounded = (scale) => Math.min(MOST_SCALE, Math.max(LEAST_SCALE, scale));

/**
 * The scale at which a picture is as wide as its place, or as a whole in it. It is never larger than it was drawn, and
 * only as a whole so small that it cannot be read: else the place scrolls.
 *
 * @param {Extent} picture
 * @param {Extent} place
 * @param {boolean} whole
 */
export function fitting(picture, place, whole) {
  const wide = place.width / Math.max(1, picture.width);
  const scale = whole ? Math.min(wide, place.height / Math.max(1, picture.height)) : Math.max(READABLE, wide);
  return bounded(Math.min(1, scale));
}

/** The width for which a picture is laid out, so that it is not at each pixel another one. @param {number} room */
export const roomOf = (room) => Math.min(WIDTHS.most, Math.max(WIDTHS.least, room - (room % WIDTHS.step)));

/**
 * What is seen at another scale: what was at the spot `at` of the place stays there.
 *
 * @param {Glance} seen
 * @param {number} scale
 * @param {Spot} at
 * @returns {Glance}
 */
export function zoomed(seen, scale, at) {
  const now = bounded(scale);
  const ratio = now / seen.scale;
  return { scale: now, left: (seen.left + at.x) * ratio - at.x, top: (seen.top + at.y) * ratio - at.y };
}

/**
 * The factor of a turn of the wheel, whose units differ between browsers; one notch is about one step.
 *
 * @param {{deltaY: number, deltaMode: number}} wheel
 */
export function wheelFactor({ deltaY, deltaMode }) {
  const pixels = deltaY * (deltaMode ? 33 : 1);
  return STEP ** (-Math.max(-100, Math.min(100, pixels)) / 100);
}

/**
 * How far to scroll along one axis so that all from `start` to `end` is in sight, as little as possible.
 *
 * @param {number} scroll
 * @param {number} room
 * @param {number} start
 * @param {number} end
 */
export function scrolledTo(scroll, room, start, end) {
  if (start < scroll || end - start > room) return Math.max(0, start);
  return end > scroll + room ? end - room : scroll;
}

/**
 * Whether a panel has room beside a picture.
 *
 * @param {number} room
 * @param {number} picture its width
 */
export const standsBeside = (room, picture) => room - PANEL >= Math.min(picture, ENOUGH);

/** The middle of two fingers, and how far apart they are. @param {Spot} a @param {Spot} b */
export const pinch = (a, b) => ({
  at: { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 },
  apart: Math.max(1, Math.hypot(a.x - b.x, a.y - b.y)),
});
