import assert from "node:assert/strict";
import { test } from "node:test";
import { fieldKind, fieldSchema, jsonHint } from "../../nbcompose/_notebook/graph/static/src/schema.js";

const DEFS = {
  Size: { type: "integer", minimum: 1, description: "in pixels" },
  Alias: { $ref: "#/$defs/Size" },
  Loop: { $ref: "#/$defs/Loop" },
  Nothing: { type: "null" },
};
const UPLOAD = { kind: /** @type {const} */ ("image"), many: false };

test("references are followed, and what stands beside one counts", () => {
  const plain = (/** @type {object} */ schema) => fieldSchema(schema, DEFS).schema;
  assert.deepEqual(plain({ $ref: "#/$defs/Size" }), DEFS.Size);
  assert.deepEqual(plain({ $ref: "#/$defs/Alias", default: 3 }), { ...DEFS.Size, default: 3 });
  assert.deepEqual(plain({ $ref: "#/$defs/Size", description: "own" }).description, "own");
  assert.deepEqual(plain({ allOf: [{ $ref: "#/$defs/Size" }], title: "S" }), { ...DEFS.Size, title: "S" });
  assert.deepEqual(plain({ $ref: "#/$defs/Missing" }), { $ref: "#/$defs/Missing" });
  assert.deepEqual(fieldSchema(undefined, DEFS), { schema: {}, optional: false });
});

test("a reference to itself ends", () => {
  assert.equal(fieldSchema({ $ref: "#/$defs/Loop" }, DEFS).schema.$ref, "#/$defs/Loop");
});

test("what may be None as well is optional", () => {
  const optional = fieldSchema({ anyOf: [{ $ref: "#/$defs/Size" }, { type: "null" }], default: null }, DEFS);
  assert.deepEqual(optional, { schema: { ...DEFS.Size, default: null }, optional: true });
  const referred = fieldSchema({ anyOf: [{ $ref: "#/$defs/Nothing" }, { type: "string" }] }, DEFS);
  assert.deepEqual(referred, { schema: { type: "string" }, optional: true });
  assert.equal(fieldSchema({ anyOf: [{ type: "string" }, { const: null }] }, DEFS).optional, true);
});

test("a choice of several types is not, nor one of one", () => {
  for (const types of [["string", "integer", "null"], ["string", "integer"], ["string"], ["null"]]) {
    const schema = { anyOf: types.map((type) => ({ type })) };
    assert.deepEqual(fieldSchema(schema, DEFS), { schema, optional: false });
  }
});

/** @type {[string, import("../../nbcompose/_notebook/graph/static/src/types.d.ts").Schema, number][]} */
const KINDS = [
  ["image", { type: "string", "x-form": UPLOAD }, 0],
  ["file", { type: "string", "x-form": { kind: "file", many: true } }, 3],
  ["array", { "x-form": { kind: "array", many: false } }, 0],
  ["json", { "x-form": { kind: "array", many: false } }, 1], // no file in a nested value
  ["json", { "x-form": { kind: "array", many: true } }, 0],
  ["choice", { type: "string", enum: ["a"] }, 0],
  ["choice", { const: null }, 0],
  ["check", { type: "boolean" }, 0],
  ["number", { type: "integer" }, 0],
  ["number", { type: "number" }, 0],
  ["text", { type: "string" }, 0],
  ["group", { type: "object", properties: {} }, 5],
  ["json", { type: "object", properties: {} }, 6],
  ["json", { type: "object" }, 0],
  ["json", {}, 0],
];
for (const [kind, schema, depth] of KINDS) {
  test(`${JSON.stringify(schema)} at depth ${depth} gets the field ${kind}`, () => {
    assert.equal(fieldKind(schema, depth), kind);
  });
}

test("an example of what JSON is wanted", () => {
  assert.equal(jsonHint({ type: "object" }), '{"key": 1}');
  assert.equal(jsonHint({ type: "array", items: { type: "string" } }), '["one", "two"]');
  assert.equal(jsonHint({ type: "array" }), "[1, 2]");
  assert.equal(jsonHint({ anyOf: [{ type: "array" }, { type: "string" }] }), "[1, 2]");
  assert.equal(jsonHint({ "x-form": { kind: "array", many: false } }), "[1, 2]");
  assert.equal(jsonHint({}), "1");
});
