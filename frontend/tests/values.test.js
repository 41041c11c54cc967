import assert from "node:assert/strict";
import { test } from "node:test";
import {
  csvUpload,
  isJson,
  jsonFrom,
  messageOf,
  numberFrom,
  textFrom,
} from "../../nbcompose/_replica/http/static/values.js";

/** @typedef {import("../../nbcompose/_replica/http/static/types.d.ts").Schema} Schema */

/** @type {[(schema: Schema, text: string) => unknown, Schema, string, unknown][]} */
const GOOD = [
  [textFrom, {}, "", ""],
  [textFrom, { minLength: 2, maxLength: 2 }, "ab", "ab"],
  [numberFrom, {}, "-1.5e3", -1500],
  [numberFrom, { type: "integer", minimum: 3, maximum: 3 }, "3", 3],
  [numberFrom, { exclusiveMinimum: 0 }, "0.1", 0.1],
  [jsonFrom, { type: "array" }, " [1, null] ", [1, null]],
  [jsonFrom, { type: "object" }, "{}", {}],
  [jsonFrom, {}, "null", null],
];
for (const [read, schema, text, value] of GOOD) {
  test(`${read.name} of ${JSON.stringify(text)} with ${JSON.stringify(schema)}`, () => {
    assert.deepEqual(read(schema, text), value);
  });
}

/** @type {[(schema: Schema, text: string) => unknown, Schema, string, RegExp][]} */
const BAD = [
  [textFrom, { minLength: 1 }, "", /^at least 1 character$/],
  [textFrom, { maxLength: 1 }, "ab", /^at most 1 character$/],
  [numberFrom, {}, "", /^enter a number$/],
  [numberFrom, {}, "one", /^enter a number$/],
  [numberFrom, {}, "1e999", /^enter a number$/],
  [numberFrom, { type: "integer" }, "1.5", /^enter a whole number$/],
  [numberFrom, { minimum: 0 }, "-1", /^at least 0$/],
  [numberFrom, { maximum: 0 }, "1", /^at most 0$/],
  [numberFrom, { exclusiveMinimum: 0 }, "0", /^more than 0$/],
  [numberFrom, { exclusiveMaximum: 0 }, "0", /^less than 0$/],
  [jsonFrom, { type: "array" }, " ", /^enter JSON, e\.g\. \[1, 2\]$/],
  [jsonFrom, {}, "{", /^not JSON yet: /],
  [jsonFrom, { type: "array" }, "{}", /^enter a JSON list/],
  [jsonFrom, { type: "object" }, "[]", /^enter a JSON object/],
  [jsonFrom, { type: "object" }, "null", /^enter a JSON object/],
];
for (const [read, schema, text, message] of BAD) {
  test(`${read.name} refuses ${JSON.stringify(text)} with ${JSON.stringify(schema)}`, () => {
    assert.throws(() => read(schema, text), { message });
  });
}

test("whatever is thrown has a message", () => {
  assert.equal(messageOf(new TypeError("no")), "no");
  assert.equal(messageOf("no"), "no");
});

test("a text that begins as JSON does is JSON, and any other is CSV", () => {
  for (const text of ['[{"a": 1}]', ' \n{"a": [1]}']) assert.equal(isJson(text), true);
  for (const text of ["", "a,b\n1,2", "1"]) assert.equal(isJson(text), false);
  assert.deepEqual(csvUpload("ü,b\n"), { name: "pasted.csv", type: "text/csv", data: "w7wsYgo=" });
});
