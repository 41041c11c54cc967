import assert from "node:assert/strict";
import { test } from "node:test";
import { bytes, compact, plural, time } from "../../nbcompose/_replica/http/static/words.js";

test("sizes", () => {
  const sizes = [null, undefined, 0, 9, 999, 1000, 9949, 9950, 12_345, 1e9, 1e18];
  assert.deepEqual(sizes.map(bytes), [
    "",
    "",
    "0 B",
    "9 B",
    "999 B",
    "1.0 kB",
    "9.9 kB",
    "9.9 kB",
    "12 kB",
    "1.0 GB",
    "1000000 TB",
  ]);
});

test("times", () => {
  const times = [0, 0.000_012, 0.0123, 0.5, 1.234, 12.34];
  assert.deepEqual(times.map(time), ["0 µs", "12 µs", "12.3 ms", "500 ms", "1.23 s", "12.3 s"]);
});

test("counts", () => {
  assert.deepEqual(
    [0, 1, 1234].map((n) => plural(n, "call")),
    ["0 calls", "1 call", "1,234 calls"],
  );
  assert.deepEqual([7, 1234, 5_600_000].map(compact), ["7", "1.2K", "5.6M"]);
});
