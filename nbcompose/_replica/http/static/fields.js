// Fields for one value each, made from its JSON schema.

/** @import { Field, FieldOptions, Schema, Upload } from "./types.d.ts" */
/** @typedef {HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement} Control */

import { button, fresh, h, part } from "./elements.js";
import { jsonHint } from "./schema.js";
import { csvUpload, isJson, jsonFrom, messageOf, numberFrom, textFrom } from "./values.js";

const CSV = "text/csv";
const TABLE = "name,age\nAda,36\n(CSV, or JSON: [{…}, {…}])";

/**
 * The frame that fields share: label, control, description, problem.
 *
 * @param {string} label
 * @param {Schema} schema
 * @param {Control} control
 * @param {{required: boolean, inline?: boolean}} options
 */
function framed(label, schema, control, { required, inline = false }) {
  const id = control.id || fresh();
  control.id = id;
  const problem = h("div.nbc-problem", { id: `${id}-problem`, role: "alert" });
  const about = schema.description ? h("div.nbc-about", { id: `${id}-about` }, schema.description) : null;
  control.setAttribute("aria-describedby", [about?.id, problem.id].filter(Boolean).join(" "));
  if (required) control.setAttribute("aria-required", "true");
  const star = required ? h("span.nbc-required", { "aria-hidden": "true" }, " *") : null;
  const caption = h("label.nbc-label", { for: id }, label, star);
  const parts = inline ? [h("div.nbc-inline", {}, control, caption)] : [caption, control];
  const element = h("div.nbc-field", { "data-field": label }, ...parts, about, problem);
  return {
    element,
    focus: () => control.focus(),
    /** @param {string} text */
    problem(text) {
      problem.textContent = text;
      text ? control.setAttribute("aria-invalid", "true") : control.removeAttribute("aria-invalid");
    },
  };
}

/**
 * A field from a control, and how its text is read: `read` returns a value or throws what is wrong.
 *
 * @param {string} label
 * @param {Schema} schema
 * @param {Control} control
 * @param {FieldOptions & {inline?: boolean}} options
 * @param {() => any} read
 * @returns {Field}
 */
export function controlled(label, schema, control, options, read) {
  const frame = framed(label, schema, control, options);
  let touched = false;
  const check = () => {
    try {
      read();
      return "";
    } catch (error) {
      return messageOf(error);
    }
  };
  const onInput = () => {
    touched = true;
    frame.problem(check());
  };
  control.addEventListener("input", onInput);
  control.addEventListener("change", onInput);
  return { ...frame, get: read, check, used: () => touched || options.required };
}

/** @type {Record<string, string>} by the format of a text */
const HINTS = {
  date: "2026-01-31",
  "date-time": "2026-01-31T12:30:00",
  time: "12:30:00",
  duration: "PT1H30M",
  uri: "https://…",
};

/** @param {string} label @param {Schema} schema @param {FieldOptions} options */
export function textField(label, schema, options) {
  const short = schema.format || schema.pattern || (schema.maxLength ?? 1000) <= 80;
  const placeholder = HINTS[schema.format ?? ""];
  const control = short ? h("input.nbc-input", { type: "text", placeholder }) : h("textarea.nbc-input", { rows: 2 });
  control.value = schema.default ?? "";
  return controlled(label, schema, control, options, () => textFrom(schema, control.value));
}

/** @param {string} label @param {Schema} schema @param {FieldOptions} options */
export function numberField(label, schema, options) {
  const low = schema.minimum ?? schema.exclusiveMinimum;
  const high = schema.maximum ?? schema.exclusiveMaximum;
  const step = schema.multipleOf ?? (schema.type === "integer" ? 1 : "any");
  const control = h("input.nbc-input", { type: "number", min: low, max: high, step });
  control.value = schema.default ?? "";
  return controlled(label, schema, control, options, () => numberFrom(schema, control.value));
}

/** @param {string} label @param {Schema} schema @param {FieldOptions} options */
export function checkField(label, schema, options) {
  const control = h("input", { type: "checkbox" });
  control.checked = Boolean(schema.default);
  return controlled(label, schema, control, { ...options, inline: true }, () => control.checked);
}

/** @param {string} label @param {Schema} schema @param {FieldOptions} options */
export function choiceField(label, schema, options) {
  const choices = schema.enum ?? [schema.const];
  const words = choices.map((c) => (typeof c === "string" ? c : JSON.stringify(c)));
  const control = h("select.nbc-input", {}, ...words.map((text, i) => h("option", { value: i }, text)));
  control.value = String(Math.max(0, choices.indexOf(schema.default)));
  return controlled(label, schema, control, options, () => choices[Number(control.value)]);
}

/** @param {string} label @param {Schema} schema @param {FieldOptions} options */
export function jsonField(label, schema, options) {
  const control = h("textarea.nbc-input.nbc-code", { rows: 2, spellcheck: "false", placeholder: jsonHint(schema) });
  if (schema.default !== undefined) control.value = JSON.stringify(schema.default);
  return controlled(label, schema, control, options, () => jsonFrom(schema, control.value));
}

/**
 * Files are read when they are chosen; an image is shown.
 *
 * @param {string} label
 * @param {Schema} schema
 * @param {FieldOptions} options
 * @param {"image" | "file"} kind
 */
export function fileField(label, schema, options, kind) {
  const many = Boolean(options.file?.many);
  const control = h("input.nbc-file", { type: "file", multiple: many, accept: kind === "image" ? "image/*" : null });
  const preview = h("div.nbc-preview");
  const stays = options.file && !options.reads;
  /** @type {(File | Upload)[]} */
  let files = [];
  let reading = false;
  // Its description says how files are written in JSON.
  const made = controlled(label, { ...schema, description: "" }, control, options, () => {
    if (reading) throw new Error("the file is still being read");
    if (!files.length) throw new Error(kind === "image" ? "choose an image" : "choose a file");
    const values = files.map((f) => (f instanceof File ? f : options.file ? { $upload: f } : f.data));
    return many ? values : values[0];
  });
  control.addEventListener("change", async () => {
    reading = true;
    const chosen = [...(control.files ?? [])];
    files = stays ? chosen : await Promise.all(chosen.map(uploaded));
    reading = false;
    preview.replaceChildren(...files.filter((f) => f.type.startsWith("image/")).map(previewOf));
    made.problem(made.check());
  });
  control.after(preview);
  return made;
}

/** @param {File | Upload} file */
export function previewOf(file) {
  const read = !(file instanceof File);
  const image = h("img", { alt: file.name });
  image.src = read ? `data:${file.type};base64,${file.data}` : URL.createObjectURL(file);
  if (!read) image.addEventListener("load", () => URL.revokeObjectURL(image.src));
  return image;
}

/** @param {string} label @param {Schema} schema @param {FieldOptions} options */
export const arrayField = (label, schema, options) =>
  documentField(label, options, jsonField(label, schema, options), { ".npy": "application/x-npy" });

/**
 * A table: CSV, as copied from a spreadsheet, or JSON.
 *
 * @param {string} label
 * @param {Schema} schema
 * @param {FieldOptions} options
 */
export function tableField(label, schema, options) {
  const control = h("textarea.nbc-input.nbc-code", { rows: 3, spellcheck: "false", placeholder: TABLE });
  const read = () => {
    const text = control.value;
    if (isJson(text)) return jsonFrom(schema, text);
    if (!text.trim()) throw new Error("enter a table: CSV with a line of names, or JSON");
    return options.reads ? { $upload: csvUpload(text) } : new File([text], "pasted.csv", { type: CSV });
  };
  const made = controlled(label, { ...schema, description: "" }, control, options, read);
  return documentField(label, options, made, { ".csv": CSV, ".tsv": CSV });
}

/**
 * What is written, or a file in its place.
 *
 * @param {string} label
 * @param {FieldOptions} options
 * @param {Field} made of a textarea
 * @param {Record<string, string>} types of files by the ends of their names
 * @returns {Field}
 */
function documentField(label, options, made, types) {
  const { element } = made;
  const control = /** @type {HTMLTextAreaElement} */ (part(element, "textarea"));
  const [ending, type] = Object.entries(types)[0];
  const accept = Object.keys(types).join(",");
  const picked = h("input.nbc-file", { type: "file", accept, "aria-label": `${label} from a ${ending} file` });
  const clear = button("remove the file", () => take(null), { class: "nbc-button nbc-quiet", hidden: true });
  /** @type {File | Upload | null} */
  let file = null;
  let reading = false;

  /** @param {File | Upload | null} next */
  function take(next) {
    file = next;
    if (!file) picked.value = "";
    control.disabled = Boolean(file);
    clear.hidden = !file;
    made.problem("");
  }

  async function read() {
    reading = true;
    try {
      const next = picked.files?.[0];
      take(next && options.reads ? await uploaded(next) : (next ?? null));
    } finally {
      reading = false;
    }
  }

  picked.addEventListener("change", read);
  control.after(h("div.nbc-or", {}, h("span.nbc-dim", {}, `or a ${ending} file`), picked, clear));
  return {
    ...made,
    get() {
      if (reading) throw new Error("the file is still being read");
      if (!file) return made.get();
      return file instanceof File ? new File([file], file.name, { type }) : { $upload: { ...file, type } };
    },
    check: () => (reading ? "the file is still being read" : file ? "" : made.check()),
    used: () => Boolean(file) || reading || made.used(),
    focus: () => (file ? picked.focus() : made.focus()),
  };
}

/** @param {File} file @returns {Promise<Upload>} */
export async function uploaded(file) {
  /** @type {string} */
  const url = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
  return { name: file.name, type: file.type, data: url.slice(url.indexOf(",") + 1) };
}
