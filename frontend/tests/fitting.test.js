import assert from "node:assert/strict";
import { test } from "node:test";
import { fittingParts } from "../../nbcompose/_notebook/graph/static/src/fitting.js";

/** @param {string} text */
const measure = (text) => text.length;

test("of several parts the last ones are left out", () => {
  const parts = ["5 of 13 failed", "p50 17 ms", "2 MiB"];
  assert.deepEqual(fittingParts(parts, 40, measure), parts);
  assert.deepEqual(fittingParts(parts, 30, measure), ["5 of 13 failed", "p50 17 ms"]);
  assert.deepEqual(fittingParts(parts, 20, measure), ["5 of 13 failed"]);
  assert.deepEqual(fittingParts(parts, 8, measure), ["5 of 13…"]);
  assert.deepEqual(fittingParts([], 8, measure), []);
});
