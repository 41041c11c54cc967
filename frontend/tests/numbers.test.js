import assert from "node:assert/strict";
import { test } from "node:test";
import { numberWords } from "../../nbcompose/_notebook/graph/static/src/numbers.js";
import { linePath } from "../../nbcompose/_notebook/graph/static/src/sparkline.js";

test("a line goes from the left to the right, and higher where there is more", () => {
  assert.equal(linePath([0, 5, 10], 10, 100, 20), "M0,20L50,10L100,0");
  assert.equal(linePath([20], 10, 100, 20), "M0,0h.1");
});

test("a line is broken where nothing is known", () => {
  assert.equal(linePath([1, null, 1, 1, null, 0], 1, 100, 10), "M0,0h.1M40,0L60,0M100,10h.1");
  assert.equal(linePath([null, null], 0, 100, 10), "");
  assert.equal(linePath([], 0, 100, 10), "");
});

test("nothing is divided by zero", () => {
  assert.equal(linePath([0, 0], 0, 100, 10), "M0,10L100,10");
});

test("the numbers of an api", () => {
  const counts = { answered: 1234, failed: 2, refused: 1, cancelled: 0 };
  assert.deepEqual(numberWords({ api: "ask", ...counts, p50: 0.0123, p95: null }), [
    ...["ask", "1,234", "2", "1", "0"],
    ...["12.3 ms", "–"],
  ]);
});
