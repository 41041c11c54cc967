// Forms: which field a JSON schema gets, and fields within fields.

import { fresh, h } from "./elements.js";
import { arrayField, checkField, choiceField, fileField, jsonField, numberField, textField } from "./fields.js";

const isNull = (schema) => schema?.type === "null" || (schema && "const" in schema && schema.const === null);

/** A schema without references; what stands beside a reference counts. */
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

/** @returns {Field} */
function field(label, schema, defs, { required = false, depth = 0 } = {}) {
  const whole = resolved(schema, defs);
  const others = (whole.anyOf ?? []).filter((option) => !isNull(resolved(option, defs)));
  if (whole.anyOf && others.length === 1 && others.length < whole.anyOf.length) {
    const { anyOf, ...beside } = whole;
    return optionalField(label, { ...resolved(others[0], defs), ...beside }, defs, { required, depth });
  }
  return concreteField(label, whole, defs, { required, depth });
}

function concreteField(label, schema, defs, options) {
  const kind = schema["x-form"]?.kind;
  if (kind === "image" || kind === "file") return fileField(label, schema, options, kind);
  if (kind === "array" && !schema["x-form"].many && !options.depth) return arrayField(label, schema, options);
  if (schema.enum || "const" in schema) return choiceField(label, schema, options);
  if (schema.type === "boolean") return checkField(label, schema, options);
  if (schema.type === "integer" || schema.type === "number") return numberField(label, schema, options);
  if (schema.type === "string") return textField(label, schema, options);
  if (schema.type === "object" && schema.properties && options.depth < 6) return groupField(label, schema, defs, options);
  return jsonField(label, schema, options);
}

/** `T | None`: a box beside the field says None. */
function optionalField(label, schema, defs, options) {
  const none = h("input", { type: "checkbox", id: fresh() });
  const bare = schema.default === null ? { ...schema, default: undefined } : schema;
  const inner = concreteField(label, bare, defs, { ...options, required: false });
  none.checked = schema.default === null || schema.default === undefined;
  let touched = false;
  const box = h("span.nbc-none", {}, none, h("label", { for: none.id }, "None"));
  (inner.element.querySelector(".nbc-label, legend") ?? inner.element).append(" ", box);
  const onNone = () => {
    inner.element.classList.toggle("nbc-isnone", none.checked);
    if (none.checked) inner.problem("");
  };
  none.addEventListener("input", (event) => {
    touched = true;
    event.stopPropagation();
    onNone();
  });
  inner.element.addEventListener("input", (event) => {
    if (event.target === none) return;
    touched = true;
    none.checked = false;
    onNone();
  });
  onNone();
  return {
    ...inner,
    get: () => (none.checked ? null : inner.get()),
    check: () => (none.checked ? "" : inner.check()),
    used: () => touched || inner.used() || options.required,
  };
}

/** Nested models: a field set. */
function groupField(label, schema, defs, options) {
  const fields = fieldsOf(schema, defs, options.depth + 1, schema.default);
  const problem = h("div.nbc-problem", { role: "alert" });
  const legend = h("legend.nbc-label", {}, label, options.required ? h("span.nbc-required", { "aria-hidden": "true" }, " *") : null);
  const about = schema.description ? h("div.nbc-about", {}, schema.description) : null;
  const element = h("fieldset.nbc-group", { "data-field": label }, legend, about, ...Object.values(fields).map((f) => f.element), problem);
  let touched = false;
  const onInput = () => { touched = true; };
  element.addEventListener("input", onInput);
  element.addEventListener("change", onInput);
  return {
    element,
    get: () => ({ ...schema.default, ...valuesOf(fields) }),
    check: () => Object.entries(fields).map(([n, f]) => (f.used() && f.check() ? `${n}: ${f.check()}` : "")).find(Boolean) ?? "",
    focus: () => Object.values(fields)[0]?.focus(),
    used: () => touched || Boolean(options.required),
    problem: (text) => { problem.textContent = text; },
    fields,
  };
}

/** @returns {Record<string, Field>} */
export function fieldsOf(schema, defs, depth = 0, defaults = {}) {
  const required = new Set(schema.required ?? []);
  const entries = Object.entries(schema.properties ?? {});
  return Object.fromEntries(entries.map(([name, s]) => {
    const own = name in (defaults ?? {}) ? { ...s, default: defaults[name] } : s;
    return [name, field(name, own, defs, { required: required.has(name), depth })];
  }));
}

/** What is left as it was is left out: its default stays Python's own. */
export function valuesOf(fields) {
  return Object.fromEntries(Object.entries(fields).filter(([, f]) => f.used()).map(([name, f]) => [name, f.get()]));
}
