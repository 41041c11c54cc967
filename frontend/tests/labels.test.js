import assert from "node:assert/strict";
import { test } from "node:test";
import { candidates, dots } from "../../nbcompose/_notebook/graph/static/src/labels.js";

/** A line straight down. @param {number} x @param {number} width of the picture @returns {any} */
const line = (x, width) => ({
  getTotalLength: () => 100,
  getPointAtLength: (/** @type {number} */ y) => ({ x, y }),
  ownerSVGElement: { viewBox: { baseVal: { width } } },
});

test("a label stands on its line, and within the picture where that is at an edge", () => {
  const lefts = (/** @type {number} */ x) => candidates(line(x, 300), [0.5]).map((box) => [box.x, box.x + box.width]);
  assert.deepEqual(lefts(150), [[116, 184]]);
  assert.deepEqual(lefts(8), [[0, 68]]);
  assert.deepEqual(lefts(296), [[232, 300]]);
});

test("no label has room between two dots of a line, but of one that is longer than any picture is high", () => {
  const long = { ...line(150, 300), getTotalLength: () => 500 };
  const heights = [0, ...dots(long).map(({ y }) => y + 1), 500];
  const gaps = heights.slice(1).map((height, i) => height - heights[i]);
  assert.ok(Math.max(...gaps) <= 8);
  assert.equal(dots({ ...line(150, 300), getTotalLength: () => 100_000 }).length, 64);
});
