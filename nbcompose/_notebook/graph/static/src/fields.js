// Fields for one value each, made from its JSON schema.

/** @typedef {{element: HTMLElement, get: () => any, check: () => string, focus: () => void,
 *   used: () => boolean, problem: (text: string) => void}} Field */

import { button, fresh, h, plural } from "./elements.js";

/** The frame that fields share: label, control, description, problem. */
function framed(label, schema, control, { required, inline = false }) {
  const id = (control.id ||= fresh());
  const problem = h("div.nbc-problem", { id: `${id}-problem`, role: "alert" });
  const about = schema.description ? h("div.nbc-about", { id: `${id}-about` }, schema.description) : null;
  control.setAttribute("aria-describedby", [about?.id, problem.id].filter(Boolean).join(" "));
  if (required) control.setAttribute("aria-required", "true");
  const caption = h("label.nbc-label", { for: id }, label, required ? h("span.nbc-required", { "aria-hidden": "true" }, " *") : null);
  const parts = inline ? [h("div.nbc-inline", {}, control, caption)] : [caption, control];
  const element = h("div.nbc-field", { "data-field": label }, ...parts, about, problem);
  return {
    element,
    focus: () => control.focus(),
    problem(text) {
      problem.textContent = text;
      text ? control.setAttribute("aria-invalid", "true") : control.removeAttribute("aria-invalid");
    },
  };
}

/** A field from a control, and how its text is read: `read` returns a value or throws what is wrong. */
function controlled(label, schema, control, options, read) {
  const frame = framed(label, schema, control, options);
  let touched = false;
  const check = () => {
    try {
      read();
      return "";
    } catch (error) {
      return error.message;
    }
  };
  const onInput = () => {
    touched = true;
    frame.problem(check());
  };
  control.addEventListener("input", onInput);
  control.addEventListener("change", onInput);
  return { ...frame, get: read, check, used: () => touched || Boolean(options.required) };
}

const HINTS = {
  date: "2026-01-31", "date-time": "2026-01-31T12:30:00", time: "12:30:00", duration: "PT1H30M", uri: "https://…",
};

export function textField(label, schema, options) {
  const short = schema.format || schema.pattern || (schema.maxLength ?? 1000) <= 80;
  const value = schema.default ?? "";
  const placeholder = HINTS[schema.format];
  const control = short ? h("input.nbc-input", { type: "text", placeholder }) : h("textarea.nbc-input", { rows: 2 });
  control.value = value;
  return controlled(label, schema, control, options, () => {
    const text = control.value;
    if (text.length < (schema.minLength ?? 0)) throw new Error(`at least ${plural(schema.minLength, "character")}`);
    if (text.length > (schema.maxLength ?? Infinity)) throw new Error(`at most ${plural(schema.maxLength, "character")}`);
    return text;
  });
}

export function numberField(label, schema, options) {
  const whole = schema.type === "integer";
  const low = schema.minimum ?? schema.exclusiveMinimum;
  const high = schema.maximum ?? schema.exclusiveMaximum;
  const step = schema.multipleOf ?? (whole ? 1 : "any");
  const control = h("input.nbc-input", { type: "number", min: low, max: high, step });
  control.value = schema.default ?? "";
  return controlled(label, schema, control, options, () => {
    const { value } = control;
    const number = Number(value);
    if (value === "" || !Number.isFinite(number)) throw new Error("a number, please");
    if (whole && !Number.isInteger(number)) throw new Error("a whole number, please");
    if (number < (schema.minimum ?? -Infinity)) throw new Error(`at least ${schema.minimum}`);
    if (number > (schema.maximum ?? Infinity)) throw new Error(`at most ${schema.maximum}`);
    if (number <= (schema.exclusiveMinimum ?? -Infinity)) throw new Error(`more than ${schema.exclusiveMinimum}`);
    if (number >= (schema.exclusiveMaximum ?? Infinity)) throw new Error(`less than ${schema.exclusiveMaximum}`);
    return number;
  });
}

export function checkField(label, schema, options) {
  const control = h("input", { type: "checkbox" });
  control.checked = Boolean(schema.default);
  return controlled(label, schema, control, { ...options, inline: true }, () => control.checked);
}

export function choiceField(label, schema, options) {
  const choices = schema.enum ?? [schema.const];
  const option = (c, i) => h("option", { value: i }, typeof c === "string" ? c : JSON.stringify(c));
  const control = h("select.nbc-input", {}, ...choices.map(option));
  control.value = Math.max(0, choices.findIndex((c) => c === schema.default));
  return controlled(label, schema, control, options, () => choices[Number(control.value)]);
}

export function jsonField(label, schema, options) {
  const control = h("textarea.nbc-input.nbc-code", { rows: 2, spellcheck: "false", placeholder: jsonHint(schema) });
  if (schema.default !== undefined) control.value = JSON.stringify(schema.default);
  return controlled(label, schema, control, options, () => {
    if (control.value.trim() === "") throw new Error(`JSON, please, e.g. ${jsonHint(schema)}`);
    let value;
    try {
      value = JSON.parse(control.value);
    } catch (error) {
      throw new Error(`not JSON yet: ${error.message}`);
    }
    if (schema.type === "array" && !Array.isArray(value)) throw new Error("a JSON list, please: [ … ]");
    if (schema.type === "object" && (value === null || typeof value !== "object" || Array.isArray(value))) {
      throw new Error("a JSON object, please: { … }");
    }
    return value;
  });
}

function jsonHint(schema) {
  if (schema.type === "object") return '{"key": 1}';
  const item = schema.items?.type;
  if (schema.type === "array" && item === "string") return '["one", "two"]';
  return schema.type === "array" || schema["x-form"]?.kind === "array" || schema.anyOf?.some((s) => s.type === "array") ? "[1, 2]" : "1";
}

/** Files are read when they are chosen; an image is shown. */
export function fileField(label, schema, options, kind) {
  const many = Boolean(schema["x-form"].many);
  const control = h("input.nbc-file", { type: "file", multiple: many, accept: kind === "image" ? "image/*" : null });
  const preview = h("div.nbc-preview");
  const nested = options.depth > 0;
  let files = [];
  let reading = false;
  // Its description says how files are written in JSON.
  const made = controlled(label, { ...schema, description: "" }, control, options, () => {
    if (reading) throw new Error("the file is still being read");
    if (!files.length) throw new Error(kind === "image" ? "an image, please" : "a file, please");
    const values = files.map((f) => (nested ? f.data : { $upload: f }));
    return many ? values : values[0];
  });
  control.addEventListener("change", async () => {
    reading = true;
    files = await Promise.all([...control.files].map(uploaded));
    reading = false;
    const images = files.filter((f) => f.type.startsWith("image/"));
    preview.replaceChildren(...images.map((f) => h("img", { src: `data:${f.type};base64,${f.data}`, alt: f.name })));
    made.problem(made.check());
  });
  control.after(preview);
  return made;
}

/** An array: JSON, or a file that numpy saved. */
export function arrayField(label, schema, options) {
  const made = jsonField(label, schema, options);
  const { element } = made;
  const control = element.querySelector("textarea");
  const picked = h("input.nbc-file", { type: "file", accept: ".npy", "aria-label": `${label} from a .npy file` });
  const clear = button("use JSON", () => take(null), { class: "nbc-button nbc-quiet", hidden: true });
  let file = null;
  let reading = false;

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
      take(picked.files.length ? await uploaded(picked.files[0]) : null);
    } finally {
      reading = false;
    }
  }

  picked.addEventListener("change", read);
  control.after(h("div.nbc-or", {}, h("span.nbc-dim", {}, "or a .npy file"), picked, clear));
  return {
    ...made,
    get() {
      if (reading) throw new Error("the file is still being read");
      return file ? { $upload: { ...file, type: "application/x-npy" } } : made.get();
    },
    check: () => (reading ? "the file is still being read" : file ? "" : made.check()),
    used: () => Boolean(file) || reading || made.used(),
    focus: () => (file ? picked.focus() : made.focus()),
  };
}

async function uploaded(file) {
  const url = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
  return { name: file.name, type: file.type, data: url.slice(url.indexOf(",") + 1) };
}
