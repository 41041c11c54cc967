// A call of a service through Jupyter, for a terminal.

type Schema = Record<string, unknown>;

/** Text as one word of a shell. */
export const shellWord = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

/** A value that a schema admits, to be changed by hand. */
export function example(schema: Schema, root: Schema = schema): unknown {
  if (typeof schema.$ref === "string") return example(resolved(schema.$ref, root), root);
  for (const key of ["default", "const"]) if (key in schema) return schema[key];
  for (const key of ["examples", "enum"]) if (Array.isArray(schema[key]) && schema[key].length) return schema[key][0];
  for (const key of ["anyOf", "oneOf", "allOf"]) {
    if (Array.isArray(schema[key]) && schema[key].length) return example(schema[key][0] as Schema, root);
  }
  switch (Array.isArray(schema.type) ? schema.type[0] : schema.type) {
    case "string":
      return "...";
    case "integer":
    case "number":
      return (schema.minimum as number | undefined) ?? 0;
    case "boolean":
      return false;
    case "array":
      return schema.items ? [example(schema.items as Schema, root)] : [];
    case "object":
      return exampleObject(schema, root);
    default:
      return schema.properties ? exampleObject(schema, root) : null;
  }
}

/** What must be given. */
function exampleObject(schema: Schema, root: Schema): Schema {
  const properties = (schema.properties ?? {}) as Record<string, Schema>;
  const required = (schema.required ?? []) as string[];
  return Object.fromEntries(required.map((name) => [name, example(properties[name] ?? {}, root)]));
}

function resolved(reference: string, root: Schema): Schema {
  let found: unknown = root;
  for (const step of reference.replace(/^#\//, "").split("/")) found = (found as Schema | undefined)?.[step];
  return (found ?? {}) as Schema;
}

/** `url`: of the service through Jupyter. The token is the user's to fill in: no text that is copied has one. */
export function curl(url: string, api: string, schema: Schema): string {
  const body = JSON.stringify(example(schema));
  return [
    `curl -s ${shellWord(`${url.replace(/\/$/, "")}/${api}`)}`,
    `-H "Authorization: token $JUPYTER_TOKEN"`,
    "-H 'Content-Type: application/json'",
    `-d ${shellWord(body)}`,
  ].join(" ");
}
