import assert from "node:assert/strict";
import { test } from "node:test";
import { outcomeParts } from "../../nbcompose/_notebook/graph/static/src/recorded.js";
import { tracesRequest } from "../../nbcompose/_notebook/graph/static/src/wanted.js";

const ANY = { service: "", api: "", state: "", time: "", text: "" };

test("nothing is asked of what is not chosen", () => {
  assert.deepEqual(tracesRequest(ANY, 1000), { type: "traces" });
  assert.deepEqual(tracesRequest({ ...ANY, text: "  " }, 1000), { type: "traces" });
});

test("what is chosen is asked", () => {
  const choices = { service: "Answer", api: "ask", state: "failed", time: "last 10 minutes", text: " tea " };
  const asked = { service: "Answer", api: "ask", state: "failed", since: 400, text: "tea" };
  assert.deepEqual(tracesRequest(choices, 1000), { type: "traces", ...asked });
});

test("an api is one of a service", () => {
  assert.deepEqual(tracesRequest({ ...ANY, api: "ask" }, 1000), { type: "traces" });
});

const CALL = {
  ...{ span: "1", arguments: [], answer: null, error: "", items: null },
  ...{ first: [], last: [], held: false, why_not: "" },
};

test("what came of a call", () => {
  assert.deepEqual(outcomeParts({ ...CALL, answer: "'x'" }), [{ label: "answer", text: "'x'" }]);
  assert.deepEqual(outcomeParts({ ...CALL, error: "ValueError: no" }), [{ label: "error", text: "ValueError: no" }]);
  assert.deepEqual(outcomeParts({ ...CALL, error: "CallCancelled" }), [{ label: "cancelled", text: "by its caller" }]);
  assert.deepEqual(outcomeParts(CALL), []);
});

test("the items of a stream", () => {
  const stream = { ...CALL, items: 9, first: ["1", "2"], last: ["9"] };
  assert.deepEqual(outcomeParts(stream), [{ label: "9 items", text: "1\n2\n…\n9" }]);
  const broken = { ...CALL, items: 1, first: ["1"], error: "ValueError" };
  assert.deepEqual(outcomeParts(broken), [
    { label: "1 item", text: "1" },
    { label: "error", text: "ValueError" },
  ]);
});
