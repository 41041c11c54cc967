import assert from "node:assert/strict";
import { test } from "node:test";
import {
  edgeWords,
  factWords,
  nodeWords,
  noteLines,
  stopWords,
} from "../../nbcompose/_notebook/graph/static/src/sentences.js";

/** @type {import("../../nbcompose/_notebook/graph/static/src/messages.d.ts").Service} */
const SERVICE = {
  name: "Answer",
  id: "node:Answer",
  state: "ready",
  reason: "",
  phase: "",
  coming: "",
  reversible: false,
  device: "cpu",
  up: 1,
  wanted: 2,
  in_flight: 0,
  calls: 0,
  errors: 0,
  rate: 0,
  p50_ms: null,
  memory: null,
  error: "",
  behind: "",
  stale: [],
  notes: [],
  serving: 1,
  apis: [],
  dependencies: [],
  options: {},
  cell: "",
};

test("the numbers of a service: its rate while it is called, its calls otherwise", () => {
  assert.equal(nodeWords(SERVICE), "");
  assert.equal(nodeWords({ ...SERVICE, calls: 3 }), "3 calls");
  const busy = { ...SERVICE, calls: 3, rate: 1.5, p50_ms: 12.5, memory: 2_000_000 };
  assert.equal(nodeWords(busy), "1.5/s · p50 12.5 ms · 2.0 MB");
  assert.equal(factWords(busy), "cpu · 1/2 up · 1.5/s · p50 12.5 ms · 2.0 MB");
  assert.equal(factWords({ ...SERVICE, device: "", errors: 1 }), "1/2 up · 1 error");
  assert.equal(factWords(null), "");
});

test("notes: what serves is old, then what has changed, then the rest", () => {
  const noted = { ...SERVICE, notes: ["a note"], stale: ["x", "y"], behind: "it does not start" };
  assert.deepEqual(noteLines(noted), [
    "the version before serves: it does not start",
    "stale: x, y changed in the notebook since",
    "a note",
  ]);
  assert.deepEqual(noted.notes, ["a note"]);
  assert.deepEqual(noteLines(null), []);
});

test("an edge", () => {
  const traffic = { calls: 1, in_flight: 2, streaming: 0, sent: 10, received: 1500 };
  const words = edgeWords({ from: "Answer", to: "Writer", id: "e", ...traffic });
  assert.equal(words, "Answer → Writer: 1 call, 2 under way, 10 B sent, 1.5 kB received");
});

test("who needs what is stopped", () => {
  assert.equal(stopWords("S", []), "Stop S? No service needs it.");
  assert.equal(stopWords("S", ["A"]), "Stop S? A cannot answer without it.");
  assert.equal(stopWords("S", ["A", "B", "C"]), "Stop S? A and B and C cannot answer without it.");
  assert.equal(stopWords("S", ["A", "B", "C", "D"]), "Stop S? A, B and 2 more cannot answer without it.");
});
