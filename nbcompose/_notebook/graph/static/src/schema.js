// What a JSON schema says of a field.

/** @import { Schema, Schemas } from "./types.d.ts" */

/** @param {Schema} schema */
const isNull = (schema) => schema.type === "null" || ("const" in schema && schema.const === null);

/**
 * A schema without references; what stands beside a reference counts.
 *
 * @param {Schema | undefined} schema
 * @param {Schemas} defs
 * @returns {Schema}
 */
function resolved(schema, defs) {
  let found = schema ?? {};
  for (let depth = 0; depth < 20; depth += 1) {
    const single = found.allOf?.length === 1 ? found.allOf[0] : null;
    const target = found.$ref ? defs[found.$ref.replace("#/$defs/", "")] : single;
    if (!target) return found;
    const { $ref, allOf, ...beside } = found;
    found = { ...target, ...beside };
  }
  return found;
}

/**
 * A schema without references, and apart from that whether its value may be None as well (`T | None`).
 *
 * @param {Schema | undefined} schema
 * @param {Schemas} defs
 * @returns {{schema: Schema, optional: boolean}}
 */
export function fieldSchema(schema, defs) {
  const whole = resolved(schema, defs);
  const all = whole.anyOf ?? [];
  const others = all.filter((option) => !isNull(resolved(option, defs)));
  if (others.length !== 1 || others.length === all.length) return { schema: whole, optional: false };
  const { anyOf, ...beside } = whole;
  return { schema: { ...resolved(others[0], defs), ...beside }, optional: true };
}

/**
 * Which field a schema without references gets.
 *
 * @param {Schema} schema
 * @param {number} depth how many field sets the field is in
 * @returns {"image" | "file" | "array" | "choice" | "check" | "number" | "text" | "group" | "json"}
 */
export function fieldKind(schema, depth) {
  const form = schema["x-form"];
  if (form?.kind === "image" || form?.kind === "file") return form.kind;
  if (form?.kind === "array" && !form.many && !depth) return "array";
  if (schema.enum || "const" in schema) return "choice";
  if (schema.type === "boolean") return "check";
  if (schema.type === "integer" || schema.type === "number") return "number";
  if (schema.type === "string") return "text";
  return schema.type === "object" && schema.properties && depth < 6 ? "group" : "json";
}

/** An example of the JSON that a schema wants. @param {Schema} schema */
export function jsonHint(schema) {
  if (schema.type === "object") return '{"key": 1}';
  const item = schema.items?.type;
  if (schema.type === "array" && item === "string") return '["one", "two"]';
  const isList =
    schema.type === "array" || schema["x-form"]?.kind === "array" || schema.anyOf?.some((s) => s.type === "array");
  return isList ? "[1, 2]" : "1";
}
