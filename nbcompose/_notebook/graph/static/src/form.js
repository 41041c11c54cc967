// Forms: which field a JSON schema gets, and fields within fields.

/** @import { Field, FieldOptions, Schema, Schemas } from "./types.d.ts" */

import { fresh, h } from "./elements.js";
import { arrayField, checkField, choiceField, fileField, jsonField, numberField, textField } from "./fields.js";
import { fieldKind, fieldSchema } from "./schema.js";

/** @param {string} label @param {Schema} schema @param {Schemas} defs @param {FieldOptions} options @returns {Field} */
function field(label, schema, defs, options) {
  const found = fieldSchema(schema, defs);
  const make = found.optional ? optionalField : concreteField;
  return make(label, found.schema, defs, options);
}

/** @param {string} label @param {Schema} schema @param {Schemas} defs @param {FieldOptions} options @returns {Field} */
function concreteField(label, schema, defs, options) {
  const kind = fieldKind(schema, options.depth);
  if (kind === "image" || kind === "file") return fileField(label, schema, options, kind);
  if (kind === "group") return groupField(label, schema, defs, options);
  return SIMPLE[kind](label, schema, options);
}

const SIMPLE = {
  array: arrayField,
  choice: choiceField,
  check: checkField,
  number: numberField,
  text: textField,
  json: jsonField,
};

/**
 * `T | None`: a box beside the field says None.
 *
 * @param {string} label
 * @param {Schema} schema
 * @param {Schemas} defs
 * @param {FieldOptions} options
 * @returns {Field}
 */
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

/**
 * Nested models: a field set.
 *
 * @param {string} label
 * @param {Schema} schema
 * @param {Schemas} defs
 * @param {FieldOptions} options
 * @returns {Field}
 */
function groupField(label, schema, defs, options) {
  const fields = fieldsOf(schema, defs, options.depth + 1, schema.default);
  const problem = h("div.nbc-problem", { role: "alert" });
  const legend = h(
    "legend.nbc-label",
    {},
    label,
    options.required ? h("span.nbc-required", { "aria-hidden": "true" }, " *") : null,
  );
  const about = schema.description ? h("div.nbc-about", {}, schema.description) : null;
  const element = h(
    "fieldset.nbc-group",
    { "data-field": label },
    legend,
    about,
    ...Object.values(fields).map((f) => f.element),
    problem,
  );
  let touched = false;
  const onInput = () => {
    touched = true;
  };
  element.addEventListener("input", onInput);
  element.addEventListener("change", onInput);
  return {
    element,
    get: () => ({ ...schema.default, ...valuesOf(fields) }),
    check: () =>
      Object.entries(fields)
        .map(([n, f]) => (f.used() && f.check() ? `${n}: ${f.check()}` : ""))
        .find(Boolean) ?? "",
    focus: () => Object.values(fields)[0]?.focus(),
    used: () => touched || options.required,
    problem: (text) => {
      problem.textContent = text;
    },
  };
}

/**
 * The fields of an object's properties. `defaults`: those of the object as a whole.
 *
 * @param {Schema} schema
 * @param {Schemas} defs
 * @param {number} depth
 * @param {Record<string, any>} defaults
 * @returns {Record<string, Field>}
 */
export function fieldsOf(schema, defs, depth = 0, defaults = {}) {
  const required = new Set(schema.required ?? []);
  const entries = Object.entries(schema.properties ?? {});
  return Object.fromEntries(
    entries.map(([name, s]) => {
      const own = name in (defaults ?? {}) ? { ...s, default: defaults[name] } : s;
      return [name, field(name, own, defs, { required: required.has(name), depth })];
    }),
  );
}

/**
 * What is left as it was is left out: its default stays Python's own.
 *
 * @param {Record<string, Field>} fields
 * @returns {Record<string, any>}
 */
export function valuesOf(fields) {
  return Object.fromEntries(
    Object.entries(fields)
      .filter(([, f]) => f.used())
      .map(([name, f]) => [name, f.get()]),
  );
}
