// What a JSON schema says of a field, and of a type in words. No DOM here.

/** @import { FileKind, Schema } from "./types.d.ts" */

/** @param {Schema} schema */
const isNull = (schema) => schema.type === "null" || ("const" in schema && schema.const === null);

/**
 * A schema without references; what stands beside a reference counts.
 *
 * @param {Schema | undefined} schema
 * @param {any} root the document that it is in
 * @returns {Schema}
 */
export function resolved(schema, root) {
  let found = schema ?? {};
  for (let depth = 0; depth < 20; depth += 1) {
    const target = found.$ref ? pointedTo(found.$ref, root) : found.allOf?.length === 1 ? found.allOf[0] : null;
    if (!target) return found;
    const { $ref, allOf, ...beside } = found;
    found = { ...target, ...beside };
  }
  return found;
}

/** What a reference within a document stands for. @param {string} reference @param {any} root */
function pointedTo(reference, root) {
  const keys = reference.replace(/^#\/?/, "").split("/");
  return keys.reduce((node, key) => node?.[key.replaceAll("~1", "/").replaceAll("~0", "~")], root);
}

/**
 * A schema without references, and apart from that whether its value may be None as well (`T | None`).
 *
 * @param {Schema | undefined} schema
 * @param {any} root
 * @returns {{schema: Schema, optional: boolean}}
 */
export function fieldSchema(schema, root) {
  const whole = resolved(schema, root);
  const all = whole.anyOf ?? [];
  const others = all.filter((option) => !isNull(resolved(option, root)));
  if (others.length !== 1 || others.length === all.length) return { schema: whole, optional: false };
  const { anyOf, ...beside } = whole;
  return { schema: { ...resolved(others[0], root), ...beside }, optional: true };
}

/** What may be written as text, too, by the type of the file. @type {Record<string, "array" | "table">} */
const DOCUMENTS = { "application/x-npy": "array", "text/csv": "table" };

/**
 * Whether a parameter may be a file, from its part of a multipart form.
 *
 * @param {Schema | undefined} part
 * @param {any} root
 * @returns {FileKind | undefined}
 */
export function fileKind(part, root) {
  const { type, items, contentMediaType } = resolved(part, root);
  const media = contentMediaType ?? resolved(items, root).contentMediaType;
  if (!media) return undefined;
  const kind = media.startsWith("image/") ? "image" : (DOCUMENTS[media] ?? "file");
  return { kind, many: type === "array" };
}

/**
 * Which field a schema without references gets.
 *
 * @param {Schema} schema
 * @param {number} depth how many field sets the field is in
 * @param {FileKind} [file]
 * @returns {"image" | "file" | "array" | "table" | "choice" | "check" | "number" | "text" | "group" | "json"}
 */
export function fieldKind(schema, depth, file) {
  if (file && (file.kind === "image" || file.kind === "file" || !file.many)) return file.kind;
  if (schema.contentEncoding === "base64") return schema.contentMediaType?.startsWith("image/") ? "image" : "file";
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
  return schema.type === "array" || schema.anyOf?.some((s) => s.type === "array") ? "[1, 2]" : "1";
}

/**
 * A short name of the type, such as "list[string]".
 *
 * @param {Schema | undefined} schema
 * @param {any} root
 * @returns {string}
 */
export function typeName(schema, root, depth = 4) {
  const named = schema?.$ref?.split("/").pop();
  const s = resolved(schema, root);
  if (s.const !== undefined) return JSON.stringify(s.const);
  if (s.enum) return s.enum.map((value) => JSON.stringify(value)).join(" | ");
  const options = s.anyOf || s.oneOf;
  if (options && depth > 0) return [...new Set(options.map((o) => typeName(o, root, depth - 1)))].join(" | ");
  if (Array.isArray(s.type)) return s.type.join(" | ");
  if (s.type === "array") return depth > 0 && s.items ? `list[${typeName(s.items, root, depth - 1)}]` : "list";
  if (s.type === "object") return named || s.title || "object";
  if (s.contentMediaType || s.format) return `${s.type || "any"} (${s.contentMediaType || s.format})`;
  return s.type || named || "any";
}
