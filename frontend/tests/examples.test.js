import assert from "node:assert/strict";
import { test } from "node:test";
import { example, resolve, typeName } from "../../nbcompose/_replica/http/static/examples.js";

/** @import { Schema } from "../../nbcompose/_replica/http/static/examples.js" */

const ROOT = {
  components: {
    schemas: {
      Item: {
        type: "object",
        required: ["name", "size"],
        properties: { name: { type: "string" }, size: { type: "integer", minimum: 2 }, note: { type: "string" } },
      },
      "a/b~c": { type: "boolean" },
      Node: { type: "object", required: ["next"], properties: { next: { $ref: "#/components/schemas/Node" } } },
    },
  },
};
const ITEM = { $ref: "#/components/schemas/Item" };
const NODE = { $ref: "#/components/schemas/Node" };

test("references are followed, escapes and all, and what stands beside one counts", () => {
  assert.equal(resolve({ ...ITEM, description: "d" }, ROOT).description, "d");
  assert.equal(resolve(ITEM, ROOT).type, "object");
  assert.equal(resolve({ $ref: "#/components/schemas/a~1b~0c" }, ROOT).type, "boolean");
  assert.deepEqual(resolve({ $ref: "#/components/nothing/at/all" }, ROOT), {});
  assert.deepEqual(resolve(undefined, ROOT), {});
});

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
  [NODE, "Node"],
];
for (const [schema, name] of NAMES) {
  test(`the type of ${JSON.stringify(schema)} is ${name}`, () => assert.equal(typeName(schema, ROOT), name));
}

/** @type {[Schema, unknown][]} */
const EXAMPLES = [
  [{ type: "string", default: "d", examples: ["e"] }, "d"],
  [{ type: "string", examples: ["e"] }, "e"],
  [{ const: 3 }, 3],
  [{ enum: ["a", "b"] }, "a"],
  [{ type: "number" }, 0],
  [{ type: "boolean" }, false],
  [{ anyOf: [{ type: "null" }, { type: "integer", minimum: 1 }] }, 1],
  [{ anyOf: [{ type: "null" }] }, null],
  [{ allOf: [ITEM, { type: "object", properties: { more: { default: 1 } } }] }, { name: "", size: 2, more: 1 }],
  [{ type: "array", items: ITEM }, [{ name: "", size: 2 }]],
  [{ type: "array", prefixItems: [{ type: "string" }, { type: "integer" }] }, ["", 0]],
  [{ type: "array" }, []],
  [{}, null],
];
for (const [schema, value] of EXAMPLES) {
  test(`an example of ${JSON.stringify(schema)}`, () => assert.deepEqual(example(schema, ROOT), value));
}

test("a type that contains itself ends", () => {
  assert.equal(JSON.stringify(example(NODE, ROOT)).match(/next/g)?.length, 6);
});
