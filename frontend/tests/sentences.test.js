import assert from "node:assert/strict";
import { test } from "node:test";
import {
  edgeWords,
  factWords,
  needing,
  nodeLabel,
  nodeParts,
  noteLines,
  stateParts,
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

/** @param {typeof SERVICE} service */
const nodeWords = (service) => nodeParts(service).join(" · ");

test("the numbers of a service: its rate while it is called, its calls otherwise", () => {
  assert.equal(nodeWords(SERVICE), "");
  assert.equal(nodeWords({ ...SERVICE, calls: 3 }), "3 calls");
  const busy = {
    ...SERVICE,
    calls: 3,
    rate: 1.5,
    p50_ms: 12.5,
    memory: 2 * 2 ** 20,
    numbers: [number("ask", 2, 0.0125)],
  };
  assert.equal(nodeWords(busy), "1.5/s · p50 12.5 ms · 2 MiB");
  assert.equal(factWords(busy), "cpu · 1/2 up · 1.5/s · 3 calls · p50 12.5 ms, p95 25 ms in 5 min · 2 MiB");
  assert.equal(factWords({ ...SERVICE, device: "", errors: 1 }), "1/2 up · 1 failed");
  assert.equal(factWords(null), "");
});

test("a card says how many of the calls failed, before all else", () => {
  const failing = { ...SERVICE, calls: 13, errors: 5, p50_ms: 17.5, memory: 2 * 2 ** 20 };
  assert.deepEqual(nodeParts(failing), ["5 of 13 calls failed", "p50 17.5 ms", "2 MiB"]);
  assert.deepEqual(nodeParts({ ...failing, rate: 2, memory_over: true }), [
    "5 of 13 calls failed",
    "2/s",
    "2 MiB ⚠",
    "p50 17.5 ms",
  ]);
  assert.equal(nodeLabel(failing), "Answer, ready, 5 of 13 calls failed · p50 17.5 ms · 2 MiB");
  assert.equal(nodeWords({ ...SERVICE, calls: 1, errors: 1 }), "1 of 1 call failed");
  assert.equal(nodeWords({ ...SERVICE, calls: 1_234_000, errors: 1200 }), "1.2K of 1.2M calls failed");
});

/** @param {string} api @param {number} answered @param {number | null} p50 */
const number = (api, answered, p50) => ({
  ...{ api, answered, failed: 0, refused: 0, cancelled: 0 },
  ...{ p50, p95: p50 === null ? null : 2 * p50 },
});

test("a state has whole parts, and what moves anyway is the last", () => {
  const held = "ready, 1 worker held";
  const busy = { ...SERVICE, in_flight: 1, errors: 9 };
  assert.deepEqual(stateParts(held, SERVICE, true), [held]);
  assert.deepEqual(stateParts(held, busy, true), ["ready", "1 worker held", "1 under way"]);
  assert.deepEqual(stateParts(held, busy, false), ["ready", "9 failed", "1 worker held", "1 under way"]);
  const waiting = "waiting for Brewer, Taster";
  assert.deepEqual(stateParts(waiting, { ...busy, state: "waiting" }, true), [waiting, "1 under way"]);
});

test("of several apis it is said whose times are shown", () => {
  const numbers = [number("ask", 2, 4.2), number("tell", 9, 0.001), number("stop", 99, null)];
  assert.equal(factWords({ ...SERVICE, numbers }), "cpu · 1/2 up · tell: p50 1 ms, p95 2 ms in 5 min");
});

test("memory over its limit is marked", () => {
  const over = {
    ...SERVICE,
    memory: 600 * 2 ** 20,
    memory_limit: 512 * 2 ** 20,
    memory_over: true,
    gpu_memory: 2 ** 30,
  };
  assert.equal(nodeWords(over), "600 MiB ⚠");
  assert.equal(factWords(over), "cpu · 1/2 up · 600 MiB of 512 MiB, over its limit, GPU 1 GiB");
});

test("notes: what serves is old, then what has changed, then the rest", () => {
  const noted = { ...SERVICE, notes: ["a note"], stale: ["x", "y"], behind: "it does not start" };
  assert.deepEqual(noteLines(noted), [
    "this is the previous version: it does not start",
    "stale: x, y changed in the notebook since",
    "a note",
  ]);
  assert.deepEqual(noted.notes, ["a note"]);
  assert.deepEqual(noteLines(null), []);
});

test("an edge", () => {
  const traffic = { calls: 1, in_flight: 2, streaming: 0, sent: 10, received: 1500 };
  const words = edgeWords({ from: "Answer", to: "Writer", id: "e", ...traffic });
  assert.equal(words, "Answer → Writer: 1 call, 2 under way, 10 B sent, 1.46 KiB received");
  const passed = edgeWords({ from: "Reader", to: "Writer", id: "e", passed: true, ...traffic });
  assert.match(passed, /^Reader reads streams of Writer, which were passed to it: 1 call,/);
});

test("who needs what is stopped", () => {
  const services = [
    { name: "Planner", dependencies: ["Gardener"] },
    { name: "Gardener", dependencies: ["Embedder", "Soil"] },
    { name: "Embedder", dependencies: [] },
  ];
  assert.deepEqual(needing(services, "Embedder"), ["Gardener", "Planner"]);
  assert.deepEqual(needing(services, "Planner"), []);
  assert.equal(stopWords("S", []), "Stop S? No service needs it.");
  assert.equal(stopWords("S", ["A"]), "Stop S? A cannot answer without it.");
  assert.equal(stopWords("S", ["A", "B", "C"]), "Stop S? A and B and C cannot answer without it.");
  assert.equal(stopWords("S", ["A", "B", "C", "D"]), "Stop S? A, B and 2 more cannot answer without it.");
});

test("a screen reader is told no word twice", () => {
  /** @type {typeof SERVICE} */
  const starting = { ...SERVICE, state: "starting", phase: "loading (__init__)", reason: "it is starting" };
  assert.equal(nodeLabel(starting), "Answer, starting, loading (__init__)");
  const again = "its replica ended and is being started again";
  assert.equal(nodeLabel({ ...starting, phase: "", reason: again }), `Answer, starting, ${again}`);
  assert.equal(nodeLabel({ ...SERVICE, calls: 2 }, "+2 folded below"), "Answer, ready, 2 calls, +2 folded below");
});
