// What a JSON schema says, for people: a type in words, and a value to begin with. No DOM here.

/** @typedef {Record<string, any>} Schema of anybody's making, so that what is in it can be anything */

/**
 * The schema that `schema` stands for: references followed, down to `depth` of them.
 *
 * @param {Schema | undefined} schema
 * @param {Schema} root the document that it is in
 * @returns {Schema}
 */
export function resolve(schema, root, depth = 8) {
  if (!schema || typeof schema !== "object" || !schema.$ref || depth === 0) return schema || {};
  const target = schema.$ref
    .replace(/^#\//, "")
    .split("/")
    .reduce(
      (/** @type {any} */ node, /** @type {string} */ key) => node?.[key.replaceAll("~1", "/").replaceAll("~0", "~")],
      root,
    );
  return { ...resolve(target, root, depth - 1), ...without(schema, "$ref") };
}

/** @param {Schema} object @param {string} key */
function without(object, key) {
  const { [key]: _, ...rest } = object;
  return rest;
}

/**
 * A short name of the type, such as "list[string]".
 *
 * @param {Schema | undefined} schema
 * @param {Schema} root
 * @returns {string}
 */
export function typeName(schema, root, depth = 4) {
  const named = schema?.$ref?.split("/").pop();
  const s = resolve(schema, root);
  if (s.const !== undefined) return JSON.stringify(s.const);
  if (s.enum) return s.enum.map((/** @type {any} */ value) => JSON.stringify(value)).join(" | ");
  const options = s.anyOf || s.oneOf;
  if (options && depth > 0)
    return [...new Set(options.map((/** @type {Schema} */ o) => typeName(o, root, depth - 1)))].join(" | ");
  if (Array.isArray(s.type)) return s.type.join(" | ");
  if (s.type === "array") return depth > 0 && s.items ? `list[${typeName(s.items, root, depth - 1)}]` : "list";
  if (s.type === "object") return named || s.title || "object";
  if (s.contentMediaType || s.format) return `${s.type || "any"} (${s.contentMediaType || s.format})`;
  return s.type || named || "any";
}

/**
 * A value that fits, or nearly: the default or an example where there is one.
 *
 * @param {Schema} schema
 * @param {Schema} root
 * @returns {any}
 */
export function example(schema, root, depth = 6) {
  const s = resolve(schema, root);
  if (s.default !== undefined) return s.default;
  if (s.examples?.length) return s.examples[0];
  if (s.const !== undefined) return s.const;
  if (s.enum) return s.enum[0];
  if (depth === 0) return null;
  const options = s.anyOf || s.oneOf;
  if (options)
    return example(
      options.find((/** @type {Schema} */ o) => resolve(o, root).type !== "null") || options[0],
      root,
      depth - 1,
    );
  if (s.allOf) return Object.assign({}, ...s.allOf.map((/** @type {Schema} */ part) => example(part, root, depth - 1)));
  return simple(Array.isArray(s.type) ? s.type[0] : s.type, s, root, depth);
}

/** @param {string | undefined} type @param {Schema} s @param {Schema} root @param {number} depth @returns {any} */
function simple(type, s, root, depth) {
  switch (type) {
    case "string":
      return "";
    case "integer":
    case "number":
      return s.minimum ?? 0;
    case "boolean":
      return false;
    case "array": {
      if (s.prefixItems) return s.prefixItems.map((/** @type {Schema} */ item) => example(item, root, depth - 1));
      return s.items ? [example(s.items, root, depth - 1)] : [];
    }
    case "object": {
      const required = new Set(s.required || []);
      const properties = Object.entries(s.properties || {});
      return Object.fromEntries(
        properties
          .filter(([name, p]) => required.has(name) || resolve(p, root).default !== undefined)
          .map(([name, p]) => [name, example(p, root, depth - 1)]),
      );
    }
    default:
      return null;
  }
}
