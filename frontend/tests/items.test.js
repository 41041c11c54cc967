import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { bodyLines, itemFrom, itemKind, itemsFrom, writtenLines } from "../../nbcompose/_replica/http/static/items.js";
import { curlOfLines } from "../../nbcompose/_replica/http/static/requests.js";

/** @typedef {import("../../nbcompose/_replica/http/static/types.d.ts").Schema} Schema */

const TEXT = { type: "string" };
const INTEGER = { type: "integer" };
const COLOR = { type: "string", enum: ["red", "blue"] };
const PERSON = { type: "object", properties: {} };

/** @type {[Schema, string][]} */
const KINDS = [
  [TEXT, "text"],
  [COLOR, "text"],
  [{ enum: [1, 2] }, "json"],
  [{ const: 1 }, "json"],
  [INTEGER, "number"],
  [{ type: "number" }, "number"],
  [{ type: "boolean" }, "boolean"],
  [PERSON, "json"],
  [{}, "json"],
  [{ anyOf: [TEXT, { type: "null" }] }, "json"],
];
for (const [schema, kind] of KINDS) {
  test(`items of ${JSON.stringify(schema)} are written as ${kind}`, () => assert.equal(itemKind(schema), kind));
}

/** @type {[Schema, string, any[]][]} */
const GOOD = [
  [TEXT, "", []],
  [TEXT, "a\nb\nc", ["a", "b", "c"]],
  [TEXT, "a\r\nb\n", ["a", "b"]],
  [TEXT, "a\n\n b \n\n", ["a", "", " b ", ""]],
  [TEXT, '["a"]', ['["a"]']],
  [COLOR, "red\nblue", ["red", "blue"]],
  [INTEGER, "1\n\n -2 \n", [1, -2]],
  [{ type: "number" }, "1e3\n.5", [1000, 0.5]],
  [{ type: "boolean" }, "true\nFalse", [true, false]],
  [PERSON, '{"a": 1}\n\n{}\n', [{ a: 1 }, {}]],
  [{}, '"a"\n[1]\nnull', ["a", [1], null]],
];
for (const [schema, text, items] of GOOD) {
  test(`${JSON.stringify(text)} is ${JSON.stringify(items)}`, () => {
    assert.deepEqual(itemsFrom(schema, itemKind(schema), text), items);
  });
}

/** @type {[Schema, string, RegExp][]} */
const BAD = [
  [INTEGER, "1\n2\nthree", /^line 3: "three" is not a number$/],
  [INTEGER, "1.5", /^line 1: 1\.5 is not a whole number$/],
  [{ ...INTEGER, minimum: 0 }, "1\n\n-1", /^line 3: at least 0$/],
  [{ type: "number" }, "1e999", /^line 1: "1e999" is not a number$/],
  [{ type: "boolean" }, "true\nyes", /^line 2: "yes" is neither true nor false$/],
  [COLOR, "red\ngreen", /^line 2: "green" is none of red, blue$/],
  [{ ...TEXT, minLength: 1 }, "a\n\nb", /^line 2: at least 1 character$/],
  [PERSON, "{}\n{", /^line 2: not JSON yet: /],
  [PERSON, "[{}]", /^line 1: enter a JSON object/],
];
for (const [schema, text, message] of BAD) {
  test(`${JSON.stringify(text)} is refused: ${message.source}`, () => {
    assert.throws(() => itemsFrom(schema, itemKind(schema), text), { message });
  });
}

test("an item that is typed by itself has no number of a line", () => {
  assert.equal(itemFrom(INTEGER, "number", " 4"), 4);
  assert.throws(() => itemFrom(INTEGER, "number", ""), { message: '"" is not a number' });
});

test("items are written as the lines that are read", () => {
  for (const [schema, text, items] of GOOD) {
    const kind = itemKind(schema);
    assert.deepEqual(itemsFrom(schema, kind, writtenLines(kind, items) ?? ""), items, text);
  }
  assert.equal(writtenLines("text", ["a\nb"]), null);
  assert.equal(writtenLines("text", [1]), null);
  assert.equal(writtenLines("number", ["1"]), null);
});

test("a body has the plain parameters first, and the items of its streams in turn", () => {
  const values = { style: "it's", a: ["x", "y"], b: [1] };
  assert.deepEqual(bodyLines(values, ["a", "b"]), ['{"style":"it\'s"}', '{"a":"x"}', '{"b":1}', '{"a":"y"}']);
  assert.deepEqual(bodyLines({ a: [] }, ["a"]), ["{}"]);
  assert.equal(bodyLines({ a: null }, ["a"]), null); // None is not an empty stream
  assert.equal(bodyLines({}, ["a"]), null);
  assert.equal(bodyLines({ a: [1] }, []), null);
});

test("a shell sends these lines", () => {
  const line = curlOfLines("http://h/refine", ['{"text":"it\'s %s \\\\n"}', "{}"], true, false);
  const script = `curl() { printf '%s\\n' "$@"; cat; }; NBCOMPOSE_TOKEN=t; ${line}`;
  assert.deepEqual(execFileSync("sh", ["-c", script], { encoding: "utf8" }).split("\n").slice(0, -1), [
    ...["-sN", "-X", "POST", "http://h/refine", "-H", "Authorization: Bearer t"],
    ...["-H", "Content-Type: application/x-ndjson", "-T", "."],
    '{"text":"it\'s %s \\\\n"}',
    "{}",
  ]);
});
