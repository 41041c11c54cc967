import assert from "node:assert/strict";
import { test } from "node:test";
import { candidates } from "../../nbcompose/_notebook/graph/static/src/labels.js";

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
