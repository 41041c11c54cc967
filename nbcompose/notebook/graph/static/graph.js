// The live graph in the browser: makes the picture that a cell shows live, and gives its services a panel with
// calls, traces and logs. The state is the kernel's; here is only what the user looks at and has typed.
// Parts, in this order: elements, the link to the kernel, the picture, forms, results, tabs, the panel, views.

/** @typedef {{name: string, state: string, reason: string, phase: string, device: string, up: number, wanted: number,
 *   in_flight: number, calls: number, errors: number, rate: number, p50_ms: ?number, memory: ?number, error: string,
 *   behind: string, stale: string[], notes: string[], serving: number, id: string, dependencies: string[],
 *   apis: {name: string, signature: string, doc: string, stream: boolean}[]}} Service */
/** @typedef {{from: string, to: string, id: string, calls: number, in_flight: number, streaming: number, sent: number,
 *   received: number}} Edge */
/** @typedef {{services: Service[], edges: Edge[], svg: string}} State */
/** @typedef {{element: HTMLElement, get: () => any, check: () => string, focus: () => void,
 *   used: () => boolean, problem: (text: string) => void}} Field */

// -- elements

const SVG = "http://www.w3.org/2000/svg";
let serial = 0;

/** Make an element; `on…` are listeners, null and false attributes are left out. */
function h(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name || "div");
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((c) => c !== null && c !== undefined));
  return element;
}

const button = (text, onclick, attributes = {}) => h("button.nbc-button", { type: "button", onclick, ...attributes }, text);
const byId = (root, id) => root.querySelector(`[id="${CSS.escape(id)}"]`);
const fresh = () => `nbc-${Date.now().toString(36)}-${(serial += 1)}`;
const plural = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;

function bytes(n) {
  if (n === null || n === undefined) return "";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (n >= 1000 && unit < units.length - 1) [n, unit] = [n / 1000, unit + 1];
  return `${n < 10 && unit ? n.toFixed(1) : Math.round(n)} ${units[unit]}`;
}

function time(seconds) {
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${(seconds * 1000).toFixed(seconds < 0.1 ? 1 : 0)} ms`;
  return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
}

// -- the link to the kernel: one for each model, shared by its views

/** @returns what a view needs to ask the kernel and to hear from it */
function link(model) {
  const listeners = new Set();
  const client = fresh();
  const visible = new Set();
  const onMessage = (message) => [...listeners].forEach((listener) => listener(message));
  const onState = () => [...listeners].forEach((listener) => listener({ type: "state" }));
  const tellLook = () => model.send({ type: "look", client, on: visible.size > 0 && !document.hidden });
  const renew = setInterval(() => visible.size && tellLook(), 10000);
  model.on("msg:custom", onMessage);
  model.on("change:state", onState);
  document.addEventListener("visibilitychange", tellLook);
  return {
    /** @returns {State} */
    state: () => model.get("state"),
    send: (message) => model.send(message),
    listen(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    look(view, on) {
      const before = visible.size;
      on ? visible.add(view) : visible.delete(view);
      if (!before !== !visible.size) tellLook();
    },
    close() {
      clearInterval(renew);
      model.off("msg:custom", onMessage);
      model.off("change:state", onState);
      document.removeEventListener("visibilitychange", tellLook);
    },
  };
}

// -- the picture

const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** The inline SVG: kept true to the state; `choose(name)` is called when the user picks a node. */
function picture(choose) {
  const element = h("div.nbc-canvas", { role: "group", "aria-label": "Services: choose one to call it" });
  let drawn = "";
  let chosen = "";
  let known = [];

  function draw(svg) {
    const focused = element.contains(document.activeElement) ? document.activeElement.id : "";
    const parsed = new DOMParser().parseFromString(svg, "image/svg+xml").documentElement;
    if (parsed.tagName !== "svg") return;
    parsed.querySelectorAll("script").forEach((script) => script.remove());
    parsed.removeAttribute("role"); // an image would hide its nodes from screen readers
    element.replaceChildren(document.importNode(parsed, true));
    drawn = svg;
    if (focused) byId(element, focused)?.focus();
  }

  /** @param {Service} service */
  function paintService(service) {
    const group = byId(element, service.id);
    if (!group) return;
    const words = nodeWords(service);
    group.classList.toggle("nbc-busy", service.in_flight > 0);
    group.classList.toggle("nbc-chosen", service.name === chosen);
    group.setAttribute("tabindex", "0");
    group.setAttribute("role", "button");
    group.setAttribute("data-service", service.name);
    group.setAttribute("aria-pressed", String(service.name === chosen));
    group.setAttribute("aria-label", [service.name, service.state, service.phase, service.reason, words].filter(Boolean).join(", "));
    liveText(group, words || (service.state === "ready" ? "no calls yet" : ""));
    liveState(group, service);
  }

  /** @param {Edge} edge */
  function paintEdge(edge) {
    const group = byId(element, edge.id);
    if (!group) return;
    group.classList.toggle("nbc-active", edge.in_flight > 0);
    group.classList.toggle("nbc-flowing", edge.streaming > 0);
    const amount = bytes(edge.sent + edge.received);
    const title = group.querySelector("title") ?? group.appendChild(document.createElementNS(SVG, "title"));
    title.textContent = `${edge.from} → ${edge.to}: ${plural(edge.calls, "call")}, ${edge.in_flight} under way, `
      + `${bytes(edge.sent)} sent, ${bytes(edge.received)} received`;
    edgeLabel(group, edge.calls ? `${edge.calls.toLocaleString("en")} · ${amount}` : "");
  }

  function onKey(event) {
    const group = event.target.closest?.("[data-service]");
    if (!group) return;
    if (event.key === "Enter" || event.key === " ") choose(group.dataset.service);
    else if (DIRECTIONS[event.key]) neighbour(element, group, DIRECTIONS[event.key])?.focus();
    else return;
    event.preventDefault();
  }

  element.addEventListener("keydown", onKey);
  element.addEventListener("click", (event) => {
    const group = event.target.closest?.("[data-service]");
    if (group) choose(group.dataset.service);
  });
  return {
    element,
    paint(state, name) {
      chosen = name;
      known = state.services;
      if (state.svg !== drawn) draw(state.svg);
      known.forEach(paintService);
      state.edges.forEach(paintEdge);
    },
    focus: (name) => element.querySelector(`[data-service="${CSS.escape(name)}"]`)?.focus(),
  };
}

/** @param {Service} service */
function nodeWords(service) {
  const parts = [];
  if (service.rate > 0) parts.push(`${service.rate}/s`);
  else if (service.calls) parts.push(plural(service.calls, "call"));
  if (service.p50_ms !== null) parts.push(`p50 ${time(service.p50_ms / 1000)}`);
  if (service.memory) parts.push(bytes(service.memory));
  return parts.join(" · ");
}

/** The line of a card that changes all the time. */
function liveText(group, words) {
  const text = group.querySelector(":scope > text.nbc-numbers");
  if (text && text.textContent !== words) text.textContent = words;
}

/** A service that works says so in words, too. */
function liveState(group, service) {
  const text = group.querySelector(":scope > text.nbc-words");
  if (!text) return;
  text.dataset.idle ??= text.textContent;
  const words = service.in_flight > 0 ? `${text.dataset.idle} · ${service.in_flight} under way` : text.dataset.idle;
  if (text.textContent !== words) text.textContent = words;
}

function edgeLabel(group, words) {
  let text = group.querySelector(":scope > text.nbc-amount");
  if (!text) {
    const path = group.querySelector("path");
    if (!path || !words) return;
    const middle = path.getPointAtLength(path.getTotalLength() / 2);
    text = document.createElementNS(SVG, "text");
    text.setAttribute("class", "nbc-amount");
    text.setAttribute("text-anchor", "middle");
    text.setAttribute("x", middle.x);
    text.setAttribute("y", middle.y + 3);
    group.appendChild(text);
  }
  if (text.textContent !== words) text.textContent = words;
}

/** The nearest node in a direction. */
function neighbour(root, from, [dx, dy]) {
  const center = (node) => {
    const box = node.getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
  };
  const [x, y] = center(from);
  let best = null;
  let least = Infinity;
  for (const node of root.querySelectorAll("[data-service]")) {
    const [nx, ny] = center(node);
    const along = (nx - x) * dx + (ny - y) * dy;
    const aside = Math.abs((nx - x) * dy) + Math.abs((ny - y) * dx);
    if (along > 1 && along + 2 * aside < least) [best, least] = [node, along + 2 * aside];
  }
  return best;
}

// -- forms: fields from a JSON schema

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
  if (schema.enum || "const" in schema) return choiceField(label, schema, options);
  if (schema.type === "boolean") return checkField(label, schema, options);
  if (schema.type === "integer" || schema.type === "number") return numberField(label, schema, options);
  if (schema.type === "string") return textField(label, schema, options);
  if (schema.type === "object" && schema.properties && options.depth < 6) return groupField(label, schema, defs, options);
  return jsonField(label, schema, options);
}

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

function textField(label, schema, options) {
  const short = schema.format || schema.pattern || (schema.maxLength ?? 1000) <= 80;
  const value = schema.default ?? "";
  const control = short ? h("input.nbc-input", { type: "text" }) : h("textarea.nbc-input", { rows: 2 });
  control.value = value;
  return controlled(label, schema, control, options, () => {
    const text = control.value;
    if (text.length < (schema.minLength ?? 0)) throw new Error(`at least ${plural(schema.minLength, "character")}`);
    if (text.length > (schema.maxLength ?? Infinity)) throw new Error(`at most ${plural(schema.maxLength, "character")}`);
    return text;
  });
}

function numberField(label, schema, options) {
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

function checkField(label, schema, options) {
  const control = h("input", { type: "checkbox" });
  control.checked = Boolean(schema.default);
  return controlled(label, schema, control, { ...options, inline: true }, () => control.checked);
}

function choiceField(label, schema, options) {
  const choices = schema.enum ?? [schema.const];
  const control = h("select.nbc-input", {}, ...choices.map((c, i) => h("option", { value: i }, typeof c === "string" ? c : JSON.stringify(c))));
  control.value = Math.max(0, choices.findIndex((c) => c === schema.default));
  return controlled(label, schema, control, options, () => choices[Number(control.value)]);
}

function jsonField(label, schema, options) {
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
function fileField(label, schema, options, kind) {
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

async function uploaded(file) {
  const url = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
  return { name: file.name, type: file.type, data: url.slice(url.indexOf(",") + 1) };
}

/** `T | None`: a box beside the field says None. */
function optionalField(label, schema, defs, options) {
  const none = h("input", { type: "checkbox", id: fresh() });
  const inner = concreteField(label, schema.default === null ? { ...schema, default: undefined } : schema, defs, { ...options, required: false });
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
function fieldsOf(schema, defs, depth = 0, defaults = {}) {
  const required = new Set(schema.required ?? []);
  const entries = Object.entries(schema.properties ?? {});
  return Object.fromEntries(entries.map(([name, s]) => [name, field(name, name in (defaults ?? {}) ? { ...s, default: defaults[name] } : s, defs, { required: required.has(name), depth })]));
}

/** What is left as it was is left out: its default stays Python's own. */
function valuesOf(fields) {
  return Object.fromEntries(Object.entries(fields).filter(([, f]) => f.used()).map(([name, f]) => [name, f.get()]));
}

// -- copy as

/** A JSON value as Python. */
function python(value) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (value?.$upload) return "...";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([k, v]) => `${python(k)}: ${python(v)}`).join(", ")}}`;
  return JSON.stringify(value);
}

/** `form.copies` with what has been filled in. */
function copied(form, kind, values) {
  const plain = JSON.parse(JSON.stringify(values), (_, v) => (v?.$upload ? v.$upload.data : v));
  const positional = new Set(form.params.filter((p) => p.kind === "positional_only").map((p) => p.name));
  const args = Object.entries(values).map(([k, v]) => (positional.has(k) ? python(v) : `${k}=${python(v)}`)).join(", ");
  // In a cell's line that starts with "!", single braces are IPython's, and single quotes the shell's.
  const shell = `'${JSON.stringify(plain).replaceAll("'", "'\\''").replaceAll("{", "{{").replaceAll("}", "}}")}'`;
  const parts = { "%(arguments)s": () => args, "%(dict)s": () => python(plain), "%(json)s": () => shell };
  return form.copies[kind].replace(/%\((arguments|dict|json)\)s/g, (found) => parts[found]());
}

async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = h("textarea", { style: "position:fixed;opacity:0" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

// -- results

/** A mime bundle as a notebook shows it. */
function shown(bundle) {
  if (bundle["text/html"]) return htmlOutput(bundle["text/html"]);
  for (const kind of ["image/png", "image/jpeg"]) {
    if (bundle[kind]) return h("img.nbc-image", { src: `data:${kind};base64,${bundle[kind]}`, alt: bundle["text/plain"] ?? "the result" });
  }
  if (bundle["image/svg+xml"]) {
    return h("img.nbc-image", { src: `data:image/svg+xml;utf8,${encodeURIComponent(bundle["image/svg+xml"])}`, alt: "the result" });
  }
  const tree = bundle["application/json"];
  if (tree !== null && typeof tree === "object") return h("div.nbc-tree", {}, jsonTree(tree, 0));
  return h("pre.nbc-text", {}, bundle["text/plain"] ?? "");
}

function htmlOutput(html) {
  const element = h("div.nbc-html.jp-RenderedHTMLCommon");
  element.innerHTML = html; // scripts in it do not run
  return element;
}

function jsonTree(value, depth) {
  if (value === null || typeof value !== "object") return h(`span.nbc-json-${value === null ? "null" : typeof value}`, {}, JSON.stringify(value));
  const entries = Object.entries(value);
  const list = Array.isArray(value);
  const summary = h("summary", {}, list ? `[${entries.length}]` : `{${entries.length}}`);
  const details = h("details", { open: depth < 2 && entries.length <= 100 }, summary);
  const fill = () => {
    if (details.childElementCount > 1) return;
    const rows = entries.slice(0, 500).map(([key, v]) => h("div.nbc-row", {}, h("span.nbc-key", {}, key), " ", jsonTree(v, depth + 1)));
    details.append(h("div.nbc-rows", {}, ...rows, entries.length > 500 ? `… ${entries.length - 500} more` : null));
  };
  if (details.open) fill();
  details.addEventListener("toggle", () => details.open && fill());
  return details;
}

/** Where one call's items, result or error come, with its clock. */
function outcome() {
  const clock = h("span.nbc-clock");
  const status = h("span.nbc-status", { role: "status" });
  const body = h("div.nbc-result", { tabindex: "-1" });
  const element = h("div.nbc-outcome", { hidden: true }, h("div.nbc-progress", {}, h("span.nbc-spinner", { "aria-hidden": "true" }), status, clock), body);
  let begun = 0;
  let timer = 0;
  let count = 0;
  const tick = () => { clock.textContent = time((performance.now() - begun) / 1000); };

  function item(bundle) {
    count += 1;
    const inline = Object.keys(bundle).every((kind) => kind === "text/plain");
    const last = body.lastElementChild;
    if (inline && last?.classList.contains("nbc-flow")) last.append(h("span", {}, bundle["text/plain"]));
    else if (inline) body.append(h("pre.nbc-text.nbc-flow", {}, h("span", {}, bundle["text/plain"])));
    else body.append(h("div.nbc-item", {}, shown(bundle)));
    status.textContent = plural(count, "item");
    body.scrollTop = body.scrollHeight;
  }

  return {
    element,
    begin() {
      body.replaceChildren();
      [begun, count] = [performance.now(), 0];
      element.hidden = false;
      element.className = "nbc-outcome nbc-running";
      status.textContent = "calling";
      timer = setInterval(tick, 100);
      tick();
    },
    item,
    end(kind, words, seconds, ...content) {
      clearInterval(timer);
      clock.textContent = seconds === undefined ? clock.textContent : time(seconds);
      element.className = `nbc-outcome nbc-${kind}`;
      status.textContent = words || (count ? plural(count, "item") : "no items");
      body.append(...content);
    },
  };
}

function failure(message) {
  const parts = [h("div.nbc-error", {}, h("b", {}, message.name), `: ${message.message}`)];
  if (message.traceback) parts.push(h("pre.nbc-traceback", { tabindex: "0", "aria-label": "traceback" }, message.traceback));
  return parts;
}

// -- tabs: each returns {element, update(state), hear(message), tick(), close()}

/** The Call tab of a service. */
function callTab(kernel, name) {
  const choices = h("select.nbc-input.nbc-api", { "aria-label": "api" });
  const about = h("div.nbc-signature");
  const area = h("form.nbc-form", { novalidate: true });
  const call = h("button.nbc-button.nbc-primary", { type: "submit" }, "Call");
  const cancel = button("Cancel", () => current && kernel.send({ type: "cancel", id: current }), { hidden: true });
  const note = h("span.nbc-note", { role: "status" });
  const result = outcome();
  const copies = ["python", "httpx", "curl"].map((kind) => button(kind === "python" ? "Python" : kind, () => copy(kind), { class: "nbc-button nbc-quiet", "data-copy": kind }));
  const foot = h("div.nbc-foot", {}, call, cancel, h("span.nbc-space"), h("span.nbc-dim", {}, "Copy as"), ...copies, note);
  const element = h("div.nbc-tab-body", {}, h("div.nbc-choose", {}, choices, about), area, result.element);
  let apis = "";
  let form = null;
  let fields = {};
  let current = "";

  function ask() {
    form = null;
    area.replaceChildren(h("div.nbc-dim", {}, "…"));
    kernel.send({ type: "form", service: name, api: choices.value });
  }

  function build(message) {
    form = message;
    fields = fieldsOf(message.schema, message.schema.$defs ?? {});
    about.replaceChildren(h("span.nbc-code", {}, message.signature), message.doc ? h("div.nbc-about", {}, message.doc) : "");
    const all = Object.values(fields).map((f) => f.element);
    area.replaceChildren(...(all.length ? all : [h("div.nbc-dim", {}, "It takes no arguments.")]), foot);
  }

  /** The values, or null where something is wrong, which is shown and focused. */
  function filled() {
    let first = null;
    for (const f of Object.values(fields)) {
      const problem = f.used() ? f.check() : "";
      f.problem(problem);
      if (problem) first ??= f;
    }
    first?.focus();
    return first ? null : valuesOf(fields);
  }

  function begin(event) {
    event.preventDefault();
    const values = form && !current ? filled() : null;
    if (!values) return;
    current = fresh();
    busy(true);
    result.begin();
    kernel.send({ type: "call", id: current, service: name, api: form.api, arguments: values });
  }

  function busy(on) {
    call.disabled = on;
    cancel.hidden = !on;
    if (!on) current = "";
  }

  async function copy(kind) {
    const values = form ? filled() : null;
    if (!values) return;
    await toClipboard(copied(form, kind, values));
    note.textContent = "copied";
    setTimeout(() => { note.textContent = ""; }, 2000);
  }

  function settle(message) {
    if (message.type === "item") return result.item(message.bundle);
    if (message.type === "items") return message.items.forEach((m) => result.item(m.bundle));
    const { seconds } = message;
    if (message.type === "result") result.end("done", "done in", seconds, shown(message.bundle));
    else if (message.type === "end") result.end("done", "", seconds);
    else if (message.type === "cancelled") result.end("cancelled", "cancelled after", seconds);
    else if (message.type === "failed") {
      result.end("failed", "failed after", seconds, ...failure(message));
      for (const p of message.problems ?? []) fields[p.loc[0]]?.problem(p.msg);
    } else return;
    const hadFocus = element.contains(document.activeElement) && document.activeElement === cancel;
    busy(false);
    if (hadFocus) call.focus();
  }

  area.addEventListener("submit", begin);
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey || event.shiftKey)) begin(event);
  });
  choices.addEventListener("change", ask);
  return {
    element,
    update(service) {
      const now = JSON.stringify([service.apis, service.serving]);
      if (now === apis || !service.apis.length) return;
      const before = choices.value;
      apis = now;
      choices.replaceChildren(...service.apis.map((a) => h("option", { value: a.name }, a.stream ? `${a.name} (stream)` : a.name)));
      if (service.apis.some((a) => a.name === before)) choices.value = before;
      choices.hidden = service.apis.length === 1;
      ask();
    },
    hear(message) {
      if (message.type === "form" && message.service === name && message.api === choices.value && !form) build(message);
      else if (message.type === "refused" && message.action === "form" && message.service === name) {
        area.replaceChildren(h("div.nbc-error", {}, message.message));
      } else if (message.id && message.id === current) settle(message);
    },
    tick() {},
    close() { if (current) kernel.send({ type: "cancel", id: current }); },
  };
}

/** The Trace tab: the last calls, and one of them as a waterfall. */
function traceTab(kernel, name, choose, first) {
  const list = h("div.nbc-traces", { role: "listbox", "aria-label": "calls, the newest first" });
  const drawing = h("div.nbc-waterfall");
  const element = h("div.nbc-tab-body.nbc-split", {}, list, drawing);
  let known = "";
  let chosen = "";
  const ask = () => kernel.send({ type: "traces" });
  // The panel of another service goes on with the same trace.
  const select = (service) => choose(service, "Trace", chosen);

  function pick(trace) {
    chosen = trace;
    for (const row of list.children) row.setAttribute("aria-selected", String(row.dataset.trace === trace));
    kernel.send({ type: "trace", trace });
  }

  function fill(traces) {
    const now = JSON.stringify(traces);
    if (now === known) return;
    known = now;
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.trace : "";
    list.replaceChildren(...traces.map((t) => traceRow(t, t.trace === chosen, pick)));
    if (!traces.length) list.append(h("div.nbc-dim", {}, "No call yet."));
    else if (!traces.some((t) => t.trace === chosen)) pick(traces.find((t) => t.trace === first)?.trace ?? traces[0].trace);
    if (focused) list.querySelector(`[data-trace="${focused}"]`)?.focus();
  }

  list.addEventListener("keydown", (event) => {
    const to = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    const row = to && document.activeElement[to];
    if (!row) return;
    event.preventDefault();
    row.focus();
    pick(row.dataset.trace);
  });
  ask();
  return {
    element,
    update() {},
    hear(message) {
      if (message.type === "traces") fill(message.traces);
      else if (message.type === "trace" && message.trace === chosen) drawing.replaceChildren(waterfall(message.rows, select));
    },
    tick: ask,
    close() {},
  };
}

function traceRow(trace, selected, pick) {
  const when = new Date(trace.start * 1000).toLocaleTimeString();
  const text = [h("span.nbc-root", {}, trace.root), h("span.nbc-dim", {}, `${time(trace.seconds)} · ${plural(trace.spans, "span")} · ${when}`)];
  return h(`button.nbc-trace${trace.error ? ".nbc-bad" : ""}`, {
    type: "button", role: "option", "data-trace": trace.trace, "aria-selected": String(selected), title: trace.error, onclick: () => pick(trace.trace),
  }, ...text);
}

/** Services as rows, calls as bars; what was spent in a queue is lighter. */
function waterfall(bars, choose) {
  const total = Math.max(...bars.map((b) => b.start + b.seconds), 1e-6);
  const services = [...new Set(bars.map((b) => b.service))];
  const lines = services.map((name) => waterfallRow(name, bars.filter((b) => b.service === name), total, choose));
  const marks = [0, 0.25, 0.5, 0.75, 1].map((part) => h("span", { style: `left:${part * 100}%` }, part ? time(total * part) : "0"));
  return h("div.nbc-chart", { role: "group", "aria-label": "where the time went" }, ...lines, h("div.nbc-line", {}, h("span.nbc-who"), h("div.nbc-axis", {}, ...marks)));
}

function waterfallRow(service, bars, total, choose) {
  const ends = [];
  const drawn = bars.map((bar) => {
    let lane = ends.findIndex((end) => end <= bar.start);
    if (lane < 0) lane = ends.length;
    ends[lane] = bar.start + bar.seconds;
    return waterfallBar(bar, lane, total, choose);
  });
  const track = h("div.nbc-track", { style: `height:${Math.max(ends.length, 1) * 20}px` }, ...drawn);
  return h("div.nbc-line", {}, h("span.nbc-who", { title: service }, service), track);
}

function waterfallBar(bar, lane, total, choose) {
  const { service } = bar;
  const part = (seconds) => `${(100 * seconds) / total}%`;
  const inside = (seconds) => `${bar.seconds ? (100 * seconds) / bar.seconds : 0}%`;
  const words = [
    `${service}.${bar.api}: ${time(bar.seconds)}`, bar.queued > 0 ? `${time(bar.queued)} of it in the queue` : "",
    bar.first_item != null ? `first item after ${time(bar.first_item)}` : "",
    bar.last_item != null ? `last item after ${time(bar.last_item)}` : "", bar.error,
  ].filter(Boolean).join(", ");
  const marks = [bar.first_item, bar.last_item].filter((at) => at != null).map((at) => h("span.nbc-mark", { style: `left:${inside(at)}` }));
  const queue = bar.queued > 0 ? h("span.nbc-queued", { style: `width:${inside(bar.queued)}` }) : null;
  return h(`button.nbc-bar${bar.error ? ".nbc-bad" : ""}`, {
    type: "button", title: words, "aria-label": words, onclick: () => choose(service),
    style: `left:${part(bar.start)};width:max(3px,${part(bar.seconds)});top:${lane * 20 + 2}px`,
  }, queue, ...marks, h("span.nbc-bar-name", {}, bar.error ? `${bar.api}: ${bar.error}` : bar.api));
}

/** The Logs tab: the last lines, followed; a filter. */
function logsTab(kernel, name) {
  const filter = h("input.nbc-input", { type: "search", placeholder: "filter", "aria-label": "filter the lines" });
  const text = h("pre.nbc-logs", { tabindex: "0", "aria-label": `what ${name} wrote` });
  const element = h("div.nbc-tab-body", {}, filter, text);
  let lines = [];
  const ask = () => kernel.send({ type: "logs", service: name, lines: 500 });

  function show() {
    const wanted = filter.value.toLowerCase();
    const found = wanted ? lines.filter((line) => line.toLowerCase().includes(wanted)) : lines;
    const follows = text.scrollTop + text.clientHeight >= text.scrollHeight - 8;
    const now = found.join("\n") || (lines.length ? "No line has it." : "It has written nothing.");
    if (text.textContent === now) return;
    text.textContent = now;
    if (follows) text.scrollTop = text.scrollHeight;
  }

  filter.addEventListener("input", show);
  ask();
  return {
    element,
    update() {},
    hear(message) {
      if (message.type !== "logs" || message.service !== name) return;
      lines = message.lines;
      show();
    },
    tick: ask,
    close() {},
  };
}

const TABS = { Call: callTab, Trace: traceTab, Logs: logsTab };

// -- the panel of the chosen service

function panel(kernel, name, choose, leave, begin = "Call", trace = "") {
  const state = h("span.nbc-chip");
  const facts = h("span.nbc-dim");
  const notes = h("div.nbc-notes");
  const asking = h("div.nbc-asking", { role: "alertdialog", "aria-label": "sure?", hidden: true });
  const said = h("span.nbc-note", { role: "status" });
  const acts = actions(kernel, name, ask);
  const close = button("×", leave, { "aria-label": "close the panel", class: "nbc-button nbc-quiet nbc-close" });
  const head = h("div.nbc-head", {}, h("b.nbc-name", {}, name), state, facts, h("span.nbc-space"), said, ...acts.elements, close);
  const tabs = h("div.nbc-tabs", { role: "tablist" });
  const body = h("div.nbc-body", { role: "tabpanel", id: fresh() });
  const element = h("section.nbc-panel", { "aria-label": `${name}: calls, traces, logs` }, head, asking, notes, tabs, body);
  const made = {};
  let shownTab = begin;
  let service = null;

  function ask(question, yes, then) {
    const back = document.activeElement;
    const done = () => {
      asking.hidden = true;
      back?.focus?.();
    };
    const sure = button(yes, () => { done(); then(); }, { class: "nbc-button nbc-danger" });
    asking.replaceChildren(h("span", {}, question), sure, button("No", done));
    asking.hidden = false;
    asking.onkeydown = (event) => event.key === "Escape" && done();
    sure.focus();
  }

  function show(tab) {
    shownTab = tab;
    made[tab] ??= TABS[tab](kernel, name, choose, trace);
    for (const t of tabs.children) {
      t.setAttribute("aria-selected", String(t.dataset.tab === tab));
      t.tabIndex = t.dataset.tab === tab ? 0 : -1;
    }
    body.replaceChildren(made[tab].element);
    if (service) made[tab].update(service);
    made[tab].tick();
  }

  for (const tab of Object.keys(TABS)) {
    tabs.append(h("button.nbc-tab", { type: "button", role: "tab", "data-tab": tab, "aria-controls": body.id, onclick: () => show(tab) }, tab));
  }
  tabs.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const names = Object.keys(TABS);
    show(names[(names.indexOf(shownTab) + step + names.length) % names.length]);
    tabs.querySelector('[aria-selected="true"]').focus();
  });
  show(begin);

  return {
    element,
    name,
    /** @param {?Service} now */
    update(now) {
      service = now;
      state.textContent = now ? now.phase || now.reason || now.state : "stopped";
      state.className = `nbc-chip nbc-${now?.state ?? "stopped"}`;
      facts.textContent = now ? [now.device, `${now.up}/${now.wanted} up`, nodeWords(now), now.errors ? plural(now.errors, "error") : ""].filter(Boolean).join(" · ") : "";
      notes.replaceChildren(...noteLines(now));
      acts.update(now);
      if (now) made[shownTab].update(now);
    },
    hear(message) {
      Object.values(made).forEach((tab) => tab.hear(message));
      if (message.service !== name) return;
      if (message.type === "done") said.textContent = "";
      else if (message.type === "refused" && message.action !== "form") said.textContent = message.message;
    },
    tick: () => made[shownTab].tick(),
    close: () => Object.values(made).forEach((tab) => tab.close()),
  };
}

/** @param {?Service} service */
function noteLines(service) {
  if (!service) return [];
  const lines = [...service.notes];
  if (service.stale.length) lines.unshift(`stale: ${service.stale.join(", ")} changed in the notebook since`);
  if (service.behind) lines.unshift(`the version before serves: ${service.behind}`);
  const error = service.state === "failed" && service.error ? [h("pre.nbc-traceback", { tabindex: "0" }, service.error)] : [];
  return [...lines.map((line) => h("div", {}, `⚠ ${line}`)), ...error];
}

/** Restart, stop, scale, roll back: those that hurt ask first. */
function actions(kernel, name, ask) {
  let wanted = 1;
  const send = (type, more = {}) => kernel.send({ type, service: name, ...more });
  const restart = button("Restart", () => ask(`Restart ${name}? New replicas take over from those that run.`, "Restart", () => send("restart")));
  const stop = button("Stop", () => ask(`Stop ${name}? What depends on it cannot answer without it.`, "Stop", () => send("stop")));
  const back = button("Roll back", () => ask(`Roll ${name} back to the version before?`, "Roll back", () => send("rollback")));
  const fewer = button("−", () => ask(`Take one replica of ${name} away?`, "Take away", () => send("scale", { replicas: wanted - 1 })), { "aria-label": "one replica fewer" });
  const more = button("+", () => send("scale", { replicas: wanted + 1 }), { "aria-label": "one replica more" });
  const count = h("span.nbc-count", { title: "replicas" }, "1");
  const scale = h("span.nbc-scale", { role: "group", "aria-label": "replicas" }, fewer, count, more);
  return {
    elements: [scale, restart, back, stop],
    /** @param {?Service} service */
    update(service) {
      wanted = service?.wanted ?? 1;
      count.textContent = String(wanted);
      fewer.disabled = !service || wanted <= 1;
      for (const b of [more, restart, stop]) b.disabled = !service;
      back.hidden = !service || service.serving <= 1;
    },
  };
}

// -- views: one for each element that shows the picture

function view(root, kernel) {
  const drawing = picture(choose);
  const side = h("div.nbc-side");
  const app = h("div.nbc-app", {}, drawing.element, side);
  let images = [];
  let current = null;
  let seen = true;

  function choose(name, tab, trace) {
    if (current?.name === name) return;
    current?.close();
    current = panel(kernel, name, choose, leave, tab, trace);
    side.replaceChildren(current.element);
    paint();
  }

  function leave() {
    const name = current?.name;
    current?.close();
    current = null;
    side.replaceChildren();
    paint();
    if (name) drawing.focus(name);
  }

  function paint() {
    const state = kernel.state();
    drawing.paint(state, current?.name ?? "");
    current?.update(state.services.find((s) => s.name === current.name) ?? null);
  }

  // JupyterLab takes plain keys for commands ("d d" deletes a cell); Ctrl-S and the like stay its own.
  const onKey = (event) => {
    const own = event.key === "Enter" || !(event.ctrlKey || event.metaKey);
    if (app.contains(event.target)) app.toggleAttribute("data-lm-suppress-shortcuts", own);
  };
  window.addEventListener("keydown", onKey, true);

  const deaf = kernel.listen((message) => (message.type === "state" ? seen && paint() : current?.hear(message)));
  const ticking = setInterval(() => seen && !document.hidden && current?.tick(), 1000);
  const watching = new IntersectionObserver((entries) => {
    seen = entries.at(-1).isIntersecting;
    kernel.look(app, seen);
    if (seen) paint();
  });

  /** Stand in an element, in the place of its picture. */
  function enter(element) {
    images = [...element.querySelectorAll("img")];
    images.forEach((image) => { image.style.display = "none"; });
    element.classList.add("nbc-live");
    element.append(app);
  }

  enter(root);
  app.addEventListener("keydown", (event) => app.hasAttribute("data-lm-suppress-shortcuts") && event.stopPropagation());
  paint();
  watching.observe(app);
  kernel.look(app, true);
  return {
    enter,
    close() {
      deaf();
      clearInterval(ticking);
      window.removeEventListener("keydown", onKey, true);
      watching.disconnect();
      kernel.look(app, false);
      current?.close();
      app.remove();
      images.forEach((image) => { image.style.display = ""; });
    },
  };
}

/** Views of all elements with the id of the picture, those that come later included. */
function initialize({ model, signal }) {
  const kernel = link(model);
  const views = new Map();
  const selector = `[data-graph="${CSS.escape(model.get("element"))}"]`;
  let planned = 0;

  function look() {
    planned = 0;
    const left = [...views].filter(([root]) => !root.isConnected);
    left.forEach(([root]) => views.delete(root));
    for (const root of document.querySelectorAll(selector)) {
      if (views.has(root)) continue;
      // An output that was drawn anew goes on with what its user has typed.
      const [, made] = left.pop() ?? [];
      made?.enter(root);
      views.set(root, made ?? view(root, kernel));
    }
    left.forEach(([, made]) => made.close());
  }

  // Many elements change while a notebook is drawn: once a frame is enough.
  const observer = new MutationObserver(() => { planned ||= setTimeout(look, 30); });
  observer.observe(document.body, { childList: true, subtree: true });
  look();
  const close = () => {
    observer.disconnect();
    clearTimeout(planned);
    views.forEach((made) => made.close());
    views.clear();
    kernel.close();
  };
  signal?.addEventListener("abort", close);
  return close;
}

/** A view of its own, where a front end cannot find the picture. */
function render({ model, el }) {
  const kernel = link(model);
  const made = view(el.appendChild(h("div.nbc-graph")), kernel);
  return () => {
    made.close();
    kernel.close();
  };
}

export default { initialize, render };
