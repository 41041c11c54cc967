import assert from "node:assert/strict";
import { test } from "node:test";
import { callWords, ending, shownSpan, timeline } from "../../nbcompose/_notebook/graph/static/src/timeline.js";

/** @param {string} service @param {number} start @param {number} seconds */
const call = (service, start, seconds, more = {}) => ({
  ...{ span: "1", parent: "", service, api: "ask", replica: 0, depth: 0, start, queued: 0, seconds },
  ...{ first_item: null, last_item: null, error: "" },
  ...more,
});

test("calls at once get lanes of their own, and a lane that is free again is used again", () => {
  const calls = [call("A", 0, 10), call("B", 1, 4), call("B", 2, 2), call("B", 4, 1), call("B", 5, 1)];
  const { total, rows } = timeline(calls);
  assert.equal(total, 10);
  assert.deepEqual(
    rows.map(({ service, lanes }) => [service, lanes]),
    [
      ["A", 1],
      ["B", 2],
    ],
  );
  assert.deepEqual(
    rows[1].placed.map(({ lane }) => lane),
    [0, 1, 1, 0],
  );
  assert.deepEqual(
    rows[1].placed.map((p) => p.call),
    calls.slice(1),
  );
});

test("services come in the order of their first calls, once", () => {
  const { rows } = timeline([call("B", 0, 3), call("A", 1, 1), call("B", 2, 1)]);
  assert.deepEqual(
    rows.map(({ service, placed }) => [service, placed.length]),
    [
      ["B", 2],
      ["A", 1],
    ],
  );
});

test("nothing is divided by zero", () => {
  assert.deepEqual(timeline([]), { total: 1e-6, rows: [] });
  assert.equal(timeline([call("A", 0, 0)]).total, 1e-6);
});

test("a call in words", () => {
  assert.equal(callWords(call("A", 0, 2)), "A.ask: 2 s");
  const stream = call("A", 0, 2, { queued: 0.5, first_item: 0, last_item: 1.5, error: "LookupError" });
  const items = "first item after 0 s, last item after 1.5 s";
  assert.equal(callWords(stream), `A.ask: 2 s, 500 ms of it in the queue, ${items}, LookupError`);
});

test("what its caller gave up did not go wrong", () => {
  assert.deepEqual(ending(""), { words: "", look: "" });
  assert.deepEqual(ending("LookupError"), { words: "LookupError", look: ".nbc-bad" });
  assert.deepEqual(ending("CallCancelled"), { words: "cancelled", look: ".nbc-given-up" });
});

test("the first call of a trace is shown, also when it comes last, until one is picked", () => {
  const child = call("B", 0, 1, { span: "b" });
  const caller = call("A", 0, 2, { span: "a" });
  assert.equal(shownSpan([child], ""), "b");
  assert.equal(shownSpan([caller, child], ""), "a");
  assert.equal(shownSpan([caller, child], "b"), "b");
  assert.equal(shownSpan([caller, child], "gone"), "a");
  assert.equal(shownSpan([], ""), "");
});
