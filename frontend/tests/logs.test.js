import assert from "node:assert/strict";
import { test } from "node:test";
import { levelClass, lineHead } from "../../nbcompose/_notebook/graph/static/src/logs.js";

const time = new Date(2026, 10, 27, 9, 3, 4, 5).getTime() / 1000;

test("a line says when, at which level, in which replica, api and trace it was written", () => {
  const line = { time, level: "WARNING", replica: 1, api: "write", trace: "a3f29c0187e54b6c8d3f29c0187e54b6" };
  assert.equal(lineHead(line), "09:03:04.005 WARNING #1 write a3f29c01");
  assert.equal(lineHead({ time, level: "", replica: 0, api: "", trace: "" }), "09:03:04.005         #0");
});

test("what is wrong stands out", () => {
  assert.deepEqual(["", "INFO", "WARNING", "ERROR", "CRITICAL"].map(levelClass), [
    "",
    "",
    "nbc-log-warning",
    "nbc-log-error",
    "nbc-log-error",
  ]);
});
