import assert from "node:assert/strict";
import { test } from "node:test";
import {
  fieldKind,
  fieldSchema,
  fileKind,
  jsonHint,
  resolved,
  typeName,
} from "../../nbcompose/_replica/http/static/schema.js";

/** @typedef {import("../../nbcompose/_replica/http/static/types.d.ts").Schema} Schema */
/** @typedef {import("../../nbcompose/_replica/http/static/types.d.ts").FileKind} FileKind */

const DEFS = {
  Size: { type: "integer", minimum: 1, description: "in pixels" },
  Alias: { $ref: "#/$defs/Size" },
  Loop: { $ref: "#/$defs/Loop" },
  Nothing: { type: "null" },
  Item: { type: "object", required: ["name"], properties: { name: { type: "string" } } },
  "a/b~c": { type: "boolean" },
  Picture: { type: "string", contentMediaType: "image/png", format: "binary" },
};
// References are pointers into a document, which is the input's schema here, and OpenAPI's at /docs.
const ROOTS = { $defs: { $defs: DEFS }, "components/schemas": { components: { schemas: DEFS } } };
const ROOT = ROOTS.$defs;

for (const [place, root] of Object.entries(ROOTS)) {
  test(`references into #/${place} are followed, and what stands beside one counts`, () => {
    /** @param {string} name */
    const $ref = (name) => `#/${place}/${name}`;
    assert.deepEqual(resolved({ $ref: $ref("Size") }, root), DEFS.Size);
    assert.deepEqual(resolved({ $ref: $ref("Size"), default: 3 }, root), { ...DEFS.Size, default: 3 });
    assert.deepEqual(resolved({ $ref: $ref("Size"), description: "own" }, root).description, "own");
    assert.deepEqual(resolved({ allOf: [{ $ref: $ref("Size") }], title: "S" }, root), { ...DEFS.Size, title: "S" });
    assert.deepEqual(resolved({ $ref: $ref("Missing") }, root), { $ref: $ref("Missing") });
    assert.deepEqual(resolved({ $ref: $ref("a~1b~0c") }, root), DEFS["a/b~c"]);
  });
}

test("nothing is known of what has no schema", () => {
  assert.deepEqual(resolved(undefined, ROOT), {});
  assert.deepEqual(resolved(DEFS.Alias, ROOT), DEFS.Size);
  assert.deepEqual(fieldSchema(undefined, ROOT), { schema: {}, optional: false });
});

test("a reference to itself ends", () => {
  assert.equal(fieldSchema({ $ref: "#/$defs/Loop" }, ROOT).schema.$ref, "#/$defs/Loop");
});

test("what may be None as well is optional", () => {
  const optional = fieldSchema({ anyOf: [{ $ref: "#/$defs/Size" }, { type: "null" }], default: null }, ROOT);
  assert.deepEqual(optional, { schema: { ...DEFS.Size, default: null }, optional: true });
  const referred = fieldSchema({ anyOf: [{ $ref: "#/$defs/Nothing" }, { type: "string" }] }, ROOT);
  assert.deepEqual(referred, { schema: { type: "string" }, optional: true });
  assert.equal(fieldSchema({ anyOf: [{ type: "string" }, { const: null }] }, ROOT).optional, true);
});

test("a choice of several types is not, nor one of one", () => {
  for (const types of [["string", "integer", "null"], ["string", "integer"], ["string"], ["null"]]) {
    const schema = { anyOf: types.map((type) => ({ type })) };
    assert.deepEqual(fieldSchema(schema, ROOT), { schema, optional: false });
  }
});

/** @type {[Schema | undefined, FileKind | undefined][]} */
const FILES = [
  [undefined, undefined],
  [{ type: "string" }, undefined],
  [{ type: "array", items: { type: "string" } }, undefined],
  [{ $ref: "#/$defs/Picture" }, { kind: "image", many: false }],
  [
    { type: "array", items: { $ref: "#/$defs/Picture" } },
    { kind: "image", many: true },
  ],
  [
    { type: "string", contentMediaType: "application/x-npy" },
    { kind: "array", many: false },
  ],
  [
    { type: "string", contentMediaType: "text/csv" },
    { kind: "table", many: false },
  ],
  [
    { type: "string", contentMediaType: "application/octet-stream" },
    { kind: "file", many: false },
  ],
];
for (const [part, file] of FILES) {
  test(`the part ${JSON.stringify(part)} is ${file ? JSON.stringify(file) : "no file"}`, () => {
    assert.deepEqual(fileKind(part, ROOT), file);
  });
}

/** @type {[string, Schema, number, FileKind?][]} */
const KINDS = [
  ["image", {}, 0, { kind: "image", many: false }],
  ["file", { type: "array" }, 0, { kind: "file", many: true }],
  ["array", {}, 0, { kind: "array", many: false }],
  ["table", {}, 0, { kind: "table", many: false }],
  ["json", { type: "array" }, 0, { kind: "array", many: true }],
  ["json", { type: "array" }, 0, { kind: "table", many: true }],
  ["image", { type: "string", contentEncoding: "base64", contentMediaType: "image/png" }, 3],
  ["file", { type: "string", contentEncoding: "base64" }, 3],
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
for (const [kind, schema, depth, file] of KINDS) {
  test(`${JSON.stringify([schema, file])} at depth ${depth} gets the field ${kind}`, () => {
    assert.equal(fieldKind(schema, depth, file), kind);
  });
}

test("an example of what JSON is wanted", () => {
  assert.equal(jsonHint({ type: "object" }), '{"key": 1}');
  assert.equal(jsonHint({ type: "array", items: { type: "string" } }), '["one", "two"]');
  assert.equal(jsonHint({ type: "array" }), "[1, 2]");
  assert.equal(jsonHint({ anyOf: [{ type: "array" }, { type: "string" }] }), "[1, 2]");
  assert.equal(jsonHint({}), "1");
});

const ITEM = { $ref: "#/$defs/Item" };
/** @type {[Schema | undefined, string][]} */
const NAMES = [
  [undefined, "any"],
  [{ type: "string" }, "string"],
  [{ type: "string", format: "date" }, "string (date)"],
  [{ contentMediaType: "image/png" }, "any (image/png)"],
  [{ const: "x" }, '"x"'],
  [{ enum: ["a", 1] }, '"a" | 1'],
  [{ type: ["string", "null"] }, "string | null"],
  [{ anyOf: [{ type: "string" }, { type: "null" }, { type: "string" }] }, "string | null"],
  [{ type: "array" }, "list"],
  [{ type: "array", items: ITEM }, "list[Item]"],
  [{ type: "object", title: "T" }, "T"],
  [ITEM, "Item"],
];
for (const [schema, name] of NAMES) {
  test(`the type of ${JSON.stringify(schema)} is ${name}`, () => assert.equal(typeName(schema, ROOT), name));
}
