// The form of an api, made from its JSON schema: which field each schema gets, fields within fields, and their values.

/** @import { Description, Feed, Field, FieldOptions, Problem, Schema } from "./types.d.ts" */

import { fresh, h } from "./elements.js";
import {
  arrayField,
  checkField,
  choiceField,
  fileField,
  jsonField,
  numberField,
  tableField,
  textField,
} from "./fields.js";
import { fieldKind, fieldSchema, fileKind, resolved } from "./schema.js";
import { streamField } from "./streams.js";

/**
 * The fields of all parameters.
 *
 * @param {Description} description
 */
export function form(description) {
  const { root, parts, reads, live, sources, variables = {}, streams = [] } = description;
  const fields = fieldsOf(resolved(description.schema, root), { root, reads, live, sources, depth: 0 }, (name) => ({
    file: fileKind(parts[name], root),
    variables: variables[name],
    stream: streams.includes(name),
  }));
  const all = Object.values(fields);
  /** @param {Field} f */
  const problemOf = (f) => (f.used() ? f.check() : "");
  /** The first field in which something is wrong. */
  const wrong = () => all.find(problemOf) ?? null;
  /** Show what is wrong, in each field; returns whether something is. */
  function mark() {
    for (const f of all) f.problem(problemOf(f));
    return Boolean(wrong());
  }
  return {
    elements: all.length ? all.map((f) => f.element) : [h("div.nbc-dim", {}, "It takes no arguments.")],
    wrong,
    mark,
    /** What is wrong, or "". */
    check: () =>
      Object.entries(fields)
        .map(([name, f]) => (problemOf(f) ? `${name}: ${problemOf(f)}` : ""))
        .find(Boolean) ?? "",
    /** The values by parameter, where nothing is wrong. */
    get: () => valuesOf(fields),
    /** The values by parameter, or null where something is wrong, which is shown and focused. */
    values() {
      if (!mark()) return valuesOf(fields);
      wrong()?.focus();
      return null;
    },
    /** The values of the fields in which nothing is wrong. */
    valid: () => valuesOf(Object.fromEntries(Object.entries(fields).filter(([, f]) => !f.check()))),
    /** Show what the server says of parameters. @param {Problem[]} problems */
    problems: (problems) => problems.forEach((p) => fields[p.loc[0]]?.problem(p.msg, p.loc.slice(1))),
    /** There may be other streams of services than there were. */
    renew: () => all.forEach((f) => f.renew?.()),
    /**
     * A call is under way for which items of these streams are typed, or none is.
     *
     * @param {Record<string, {feed: Feed, sent?: number}>} typed by parameter
     */
    run: (typed) =>
      Object.entries(fields).forEach(([name, f]) => {
        f.run?.(typed[name]?.feed ?? null, typed[name]?.sent);
      }),
  };
}

/** @param {string} label @param {Schema} schema @param {FieldOptions} options @returns {Field} */
function field(label, schema, options) {
  const found = fieldSchema(schema, options.root);
  const make = found.optional ? optionalField : concreteField;
  return make(label, found.schema, options);
}

/** @param {string} label @param {Schema} schema @param {FieldOptions} options @returns {Field} */
function concreteField(label, schema, options) {
  if (options.stream) return streamField(label, schema, options, form);
  const kind = fieldKind(schema, options.depth, options.file);
  if (kind === "group") return groupField(label, schema, options);
  const file = kind === "image" || kind === "file";
  const made = file ? fileField(label, schema, options, kind) : SIMPLE[kind](label, schema, options);
  return options.variables ? orVariable(made, label, options.variables) : made;
}

const SIMPLE = {
  array: arrayField,
  table: tableField,
  choice: choiceField,
  check: checkField,
  number: numberField,
  text: textField,
  json: jsonField,
};

/**
 * A field, or a variable of the notebook in its place.
 *
 * @param {Field} inner
 * @param {string} label
 * @param {string[]} names the variables that are known to fit; others may be typed
 * @returns {Field}
 */
function orVariable(inner, label, names) {
  const list = h("datalist", { id: fresh() }, ...names.map((name) => h("option", { value: name })));
  const chosen = h("input.nbc-input.nbc-variable", {
    type: "text",
    list: list.id,
    placeholder: names[0] ?? "a name",
    spellcheck: "false",
    "aria-label": `${label} from a variable of the notebook`,
  });
  const name = () => chosen.value.trim();
  chosen.addEventListener("input", () => {
    inner.element.classList.toggle("nbc-isvariable", Boolean(name()));
    inner.problem("");
  });
  const row = h("label.nbc-or", {}, h("span.nbc-dim", {}, "or a variable of the notebook"), chosen);
  inner.element.append(row, list);
  return {
    ...inner,
    get: () => (name() ? { $variable: name() } : inner.get()),
    check: () => (name() ? "" : inner.check()),
    used: () => Boolean(name()) || inner.used(),
    focus: () => (name() ? chosen.focus() : inner.focus()),
  };
}

/**
 * `T | None`: a box beside the field says None.
 *
 * @param {string} label
 * @param {Schema} schema
 * @param {FieldOptions} options
 * @returns {Field}
 */
function optionalField(label, schema, options) {
  const none = h("input", { type: "checkbox", id: fresh() });
  const bare = schema.default === null ? { ...schema, default: undefined } : schema;
  const inner = concreteField(label, bare, { ...options, required: false });
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
 * @param {FieldOptions} options
 * @returns {Field}
 */
function groupField(label, schema, options) {
  const within = { root: options.root, reads: options.reads, depth: options.depth + 1 };
  const fields = fieldsOf(schema, within, () => ({}), schema.default);
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
 * The fields of an object's properties. `more` says what is known of a parameter beside its schema; `defaults` are those of the object as a whole.
 *
 * @param {Schema} schema
 * @param {Pick<FieldOptions, "root" | "reads" | "live" | "sources" | "depth">} options
 * @param {(name: string) => Pick<FieldOptions, "file" | "variables" | "stream">} more
 * @param {Record<string, any>} defaults
 * @returns {Record<string, Field>}
 */
function fieldsOf(schema, options, more, defaults = {}) {
  const required = new Set(schema.required ?? []);
  const entries = Object.entries(schema.properties ?? {});
  return Object.fromEntries(
    entries.map(([name, s]) => {
      const own = name in (defaults ?? {}) ? { ...s, default: defaults[name] } : s;
      return [name, field(name, own, { ...options, required: required.has(name), ...more(name) })];
    }),
  );
}

/**
 * What is left as it was is left out: its default stays Python's own.
 *
 * @param {Record<string, Field>} fields
 * @returns {Record<string, any>}
 */
function valuesOf(fields) {
  return Object.fromEntries(
    Object.entries(fields)
      .filter(([, f]) => f.used())
      .map(([name, f]) => [name, f.get()]),
  );
}
