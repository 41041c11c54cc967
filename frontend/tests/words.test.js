import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { bytes, clock, compact, plural, time } from "../../nbcompose/_replica/http/static/words.js";

/** The cases that Python is held to as well. @type {{durations: [number, string][], sizes: [number, string][]}} */
const UNITS = JSON.parse(readFileSync(new URL("units.json", import.meta.url), "utf8"));

test("sizes", () => {
  assert.deepEqual([null, undefined].map(bytes), ["", ""]);
  for (const [count, text] of UNITS.sizes) assert.equal(bytes(count), text);
});

test("times", () => {
  for (const [seconds, text] of UNITS.durations) assert.equal(time(seconds), text);
});

test("hours of the day", () => {
  assert.equal(clock(new Date(2026, 10, 27, 18, 3, 4, 999).getTime() / 1000), "18:03:04");
});

test("counts", () => {
  assert.deepEqual(
    [0, 1, 1234].map((n) => plural(n, "call")),
    ["0 calls", "1 call", "1,234 calls"],
  );
  assert.deepEqual([7, 1234, 5_600_000].map(compact), ["7", "1.2K", "5.6M"]);
});
