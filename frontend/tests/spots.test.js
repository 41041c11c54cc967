import assert from "node:assert/strict";
import { test } from "node:test";
import { chosenSpots } from "../../nbcompose/_notebook/graph/static/src/spots.js";

/** @param {number} x @param {number} y */
const box = (x, y, width = 10, height = 10) => ({ x, y, width, height });
const [left, middle, right] = [box(0, 0), box(20, 0), box(40, 0)];

test("an edge gets the best spot that is free", () => {
  const edge = { line: [], wanted: [left, middle, right] };
  assert.deepEqual(chosenSpots([], [edge]), [{ ...left, crowded: false }]);
  assert.deepEqual(chosenSpots([box(5, 5)], [edge]), [{ ...middle, crowded: false }]);
  assert.deepEqual(chosenSpots([box(10, 0)], [edge]), [{ ...left, crowded: false }]); // touching is not covering
});

test("a label keeps others away, and so does another's line, not its own", () => {
  const first = { line: [], wanted: [left] };
  const second = { line: [], wanted: [left, middle, right] };
  assert.deepEqual(chosenSpots([], [first, second]), [
    { ...left, crowded: false },
    { ...middle, crowded: false },
  ]);
  const own = { line: [left], wanted: [left] };
  assert.deepEqual(chosenSpots([], [own]), [{ ...left, crowded: false }]);
  const crossing = { line: [middle], wanted: [right] };
  const kept = chosenSpots([], [{ line: [], wanted: [middle, left] }, crossing]);
  assert.deepEqual(kept, [
    { ...left, crowded: false },
    { ...right, crowded: false },
  ]);
});

test("without a free spot, one is better on a line than on a card", () => {
  const edge = { line: [], wanted: [left, middle] };
  const other = { line: [middle], wanted: [right] };
  assert.deepEqual(chosenSpots([left], [edge, other])[0], { ...middle, crowded: true });
  assert.deepEqual(chosenSpots([left, middle], [edge])[0], { ...left, crowded: true });
});

test("without a free spot, a short text covers as little of the lines as can be", () => {
  const wide = [box(0, 0, 20), box(12, 0, 20)];
  const other = { line: [box(8, 0, 2), box(14, 0, 2), box(30, 0, 2)], wanted: [right] };
  assert.deepEqual(chosenSpots([], [{ line: [], wanted: wide }, other])[0], { ...wide[1], crowded: true });
});

test("a crowded label keeps nobody away, and the list that is given stays as it is", () => {
  const taken = [left];
  const edges = [
    { line: [], wanted: [left] },
    { line: [], wanted: [middle] },
  ];
  chosenSpots(taken, edges);
  assert.deepEqual(taken, [left]);
});
