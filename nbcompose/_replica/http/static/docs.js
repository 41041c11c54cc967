// Shows the service that serves this page, from its OpenAPI document, and calls its apis.

/** @import { Schema } from "./examples.js" */
/** @typedef {Record<string, {schema: Schema}>} Contents by media type */
/** @typedef {{summary?: string, description?: string, operationId?: string, requestBody?: {content: Contents},
 *   responses: Record<string, {content?: Contents}>,
 *   "x-nbcompose-params"?: {name: string, kind: string, text: string}[]}} Operation */
/** @typedef {{info: {title: string, summary?: string, description?: string},
 *   paths: Record<string, {post?: Operation}>}} OpenApi */
/** @typedef {{error: {type: string, message: string, id: string}}} Problem */

import { example, resolve, typeName } from "./examples.js";

const JSON_TYPE = "application/json";
const NDJSON = "application/x-ndjson";
/** What docs.html has, which this page knows. @param {string} selector @param {ParentNode} within @returns {any} */
const $ = (selector, within = document) => within.querySelector(selector);

/** @returns {Record<string, string>} */
function authorization() {
  const token = $("#token").value.trim();
  return token ? { Authorization: `Bearer ${token}` } : {};
}

/** Relative, so that the page works behind a proxy that puts a path in front. @param {string} route */
const address = (route) => new URL(route.replace(/^\//, ""), document.baseURI);

async function load() {
  const status = $("#status");
  try {
    const response = await fetch(address("openapi.json"), { headers: authorization() });
    if (!response.ok) throw new Error((await response.json()).error.message);
    show(await response.json());
    status.textContent = "";
  } catch (error) {
    status.textContent = messageOf(error);
    status.classList.add("error");
    $("#token").focus();
    return;
  }
  status.classList.remove("error");
}

/** @param {unknown} error */
const messageOf = (error) => (error instanceof Error ? error.message : String(error));

/** @param {OpenApi} openapi */
function show(openapi) {
  $("#title").textContent = document.title = openapi.info.title;
  $("#about").textContent = docstring(openapi.info);
  const sections = Object.entries(openapi.paths)
    .map(([route, { post }]) => post && apiSection(route, post, openapi))
    .filter((section) => section !== undefined);
  $("#apis").replaceChildren(...sections);
}

/** @param {string} route @param {Operation} operation @param {OpenApi} root @returns {HTMLElement} */
function apiSection(route, operation, root) {
  const section = $("#api").content.firstElementChild.cloneNode(true);
  const inputs = operation.requestBody?.content || {};
  const schema = resolve(inputs[JSON_TYPE]?.schema, root);
  const results = operation.responses["200"]?.content || {};
  if (hasRoot(operation)) section.dataset.root = "yes";
  $(".name", section).textContent = operation.operationId || route;
  $(".signature", section).textContent = signature(operation);
  $(".route", section).textContent = `POST ${route}`;
  $(".doc", section).textContent = docstring(operation);
  fillTable($("table", section), schema, root);
  $(".returns code", section).textContent = returned(results, root);
  const editor = $("textarea", section);
  editor.value = JSON.stringify(example(withoutDefault(schema), root) ?? {}, null, 2);
  editor.rows = Math.min(16, editor.value.split("\n").length + 1);
  addFiles($(".files", section), inputs, root);
  fillAccept($(".accept", section), Object.keys(results));
  const curl = () => {
    $(".curl", section).textContent = curlLine(route, editor.value, givesFile(results));
  };
  editor.addEventListener("input", curl);
  curl();
  $("form", section).addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    call(route, section);
  });
  return section;
}

/** @param {{summary?: string, description?: string}} about */
const docstring = ({ summary, description }) => [summary, description].filter(Boolean).join("\n\n");

/** @param {Operation} operation */
function signature(operation) {
  const params = operation["x-nbcompose-params"];
  return params ? `(${params.map((p) => p.text).join(", ")})` : "";
}

/** The body is the only argument itself, as the body of a form is not. @param {Operation} operation */
function hasRoot(operation) {
  const params = operation["x-nbcompose-params"] || [];
  return params.length === 1 && params[0].kind === "positional_only";
}

/** The body as a whole may have a default ("nothing"), which would hide the parameters. @param {Schema} schema */
function withoutDefault(schema) {
  const { default: _, ...rest } = schema;
  return rest;
}

/** @param {HTMLTableElement} table @param {Schema} schema @param {OpenApi} root */
function fillTable(table, schema, root) {
  const required = new Set(schema.required || []);
  /** @type {[string, Schema][]} */
  const properties = Object.entries(schema.properties || {});
  const rows = properties.map(([name, property]) => {
    const p = resolve(property, root);
    const shown = p.default === undefined ? (required.has(name) ? "required" : "") : JSON.stringify(p.default);
    const row = document.createElement("tr");
    const head = cell("th", name);
    head.scope = "row";
    row.append(head, cell("td", typeName(property, root)), cell("td", shown), cell("td", p.description || ""));
    return row;
  });
  $("tbody", table).replaceChildren(...rows);
  table.hidden = rows.length === 0;
}

/** @template {"th" | "td" | "label"} T @param {T} tag @param {string} text */
function cell(tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}

/** @param {Contents} results @param {OpenApi} root */
function returned(results, root) {
  const mediaTypes = Object.keys(results);
  if (!mediaTypes.length) return "nothing";
  if (givesFile(results)) return `a file: ${mediaTypes.filter((type) => type !== JSON_TYPE).join(", ")}; or JSON`;
  const type = typeName(results[mediaTypes[0]].schema, root);
  return mediaTypes[0] === JSON_TYPE ? type : `${type}, as ${mediaTypes.join(" or ")}`;
}

/** The default comes first. @param {Contents} results */
const givesFile = (results) => ![JSON_TYPE, NDJSON].includes(Object.keys(results)[0] ?? JSON_TYPE);

/** @param {HTMLElement} container @param {Contents} inputs @param {OpenApi} root */
function addFiles(container, inputs, root) {
  const form = resolve(inputs["multipart/form-data"]?.schema, root);
  /** @type {[string, Schema][]} */
  const properties = Object.entries(form.properties || {});
  for (const [name, property] of properties) {
    const p = resolve(property, root);
    if (!p.contentMediaType && p.format !== "binary") continue;
    const label = cell("label", `${name}, from a file `);
    const input = document.createElement("input");
    input.type = "file";
    input.name = name;
    label.append(input);
    container.append(label);
  }
}

/** @param {HTMLElement} label @param {string[]} mediaTypes */
function fillAccept(label, mediaTypes) {
  label.hidden = mediaTypes.length < 2;
  $("select", label).replaceChildren(...mediaTypes.map((type) => new Option(type)));
}

/** @param {string} route @param {string} body @param {boolean} saves whether the answer is a file */
function curlLine(route, body, saves) {
  const token = authorization().Authorization ? ` \\\n  -H "Authorization: Bearer $NBCOMPOSE_TOKEN"` : "";
  const quoted = body.replaceAll("'", `'\\''`);
  const output = saves ? " -o answer" : "";
  return `curl ${address(route)}${output}${token} \\\n  -H 'Content-Type: ${JSON_TYPE}' \\\n  -d '${quoted}'`;
}

/** @param {string} route @param {HTMLElement} section */
async function call(route, section) {
  const [button, stop, output] = [$("[type=submit]", section), $(".stop", section), $(".result", section)];
  const controller = new AbortController();
  stop.onclick = () => controller.abort();
  button.disabled = true;
  stop.disabled = false;
  output.hidden = false;
  output.classList.remove("error");
  output.textContent = "";
  const clock = startClock($(".elapsed", section));
  try {
    const response = await send(route, section, controller.signal);
    if (!response.ok) throw new Error(describe(await response.json()));
    await display(response, output);
  } catch (error) {
    output.classList.add("error");
    output.append(error instanceof Error && error.name === "AbortError" ? "stopped" : messageOf(error));
  } finally {
    clock();
    button.disabled = false;
    stop.disabled = true;
  }
}

/** @param {string} route @param {HTMLElement} section @param {AbortSignal} signal */
function send(route, section, signal) {
  /** @type {Record<string, string>} */
  const headers = { ...authorization(), Accept: $("select", section).value || "*/*" };
  const text = $("textarea", section).value;
  /** @type {NodeListOf<HTMLInputElement>} */
  const inputs = section.querySelectorAll("input[type=file]");
  const files = [...inputs].flatMap(({ name, files }) =>
    [...(files ?? [])].slice(0, 1).map((file) => ({ name, file })),
  );
  /** @type {string | FormData} */
  let body = text;
  if (files.length) {
    const chosen = new Set(files.map(({ name }) => name));
    body = new FormData();
    for (const [name, value] of Object.entries(section.dataset.root ? {} : JSON.parse(text || "{}"))) {
      // A part for text holds the text itself.
      if (!chosen.has(name)) body.append(name, typeof value === "string" ? value : JSON.stringify(value));
    }
    for (const { name, file } of files) body.append(name, file);
  } else {
    headers["Content-Type"] = JSON_TYPE;
  }
  return fetch(address(route), { method: "POST", headers, body, signal });
}

/** @param {HTMLElement} element */
function startClock(element) {
  const start = performance.now();
  const tick = () => {
    element.textContent = `${((performance.now() - start) / 1000).toFixed(2)} s`;
  };
  const timer = setInterval(tick, 100);
  return () => {
    clearInterval(timer);
    tick();
  };
}

/** @param {Problem} problem */
const describe = ({ error }) => `${error.type}: ${error.message}\n(id ${error.id})`;

/** @param {Response} response @param {HTMLElement} output */
async function display(response, output) {
  const mediaType = response.headers.get("Content-Type") || "";
  if (mediaType.startsWith(JSON_TYPE)) {
    output.textContent = JSON.stringify(await response.json(), null, 2);
  } else if (mediaType.startsWith(NDJSON) || mediaType.startsWith("text/")) {
    await displayStream(response, output, mediaType.startsWith(NDJSON));
  } else {
    await displayBytes(await response.blob(), fileName(response), output);
  }
}

/** @param {Response} response @param {HTMLElement} output @param {boolean} isNdjson */
async function displayStream(response, output, isNdjson) {
  let rest = "";
  for await (const text of chunks(/** @type {ReadableStream} */ (response.body).pipeThrough(new TextDecoderStream()))) {
    const lines = (rest + text).split("\n");
    rest = (isNdjson && lines.pop()) || "";
    // One by one: those before a line that tells of an error are shown.
    if (isNdjson) lines.forEach((line) => output.append(itemText(line)));
    else output.append(text);
    output.scrollTop = output.scrollHeight;
  }
}

/** Safari cannot iterate a ReadableStream. @param {ReadableStream<string>} stream */
async function* chunks(stream) {
  const reader = stream.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) yield part.value;
}

/** @param {string} line */
function itemText(line) {
  const item = JSON.parse(line);
  if (typeof item === "string") return item;
  if (item?.error?.id) throw new Error(`\n${describe(item)}`);
  return `${line}\n`;
}

/** @param {Response} response */
function fileName(response) {
  const disposition = response.headers.get("Content-Disposition") || "";
  const encoded = disposition.match(/filename\*=UTF-8''([^;]+)/);
  return encoded ? decodeURIComponent(encoded[1]) : disposition.match(/filename="([^"]*)"/)?.[1] || "result";
}

/** @param {Blob} blob @param {string} name @param {HTMLElement} output */
async function displayBytes(blob, name, output) {
  const url = URL.createObjectURL(blob);
  if (blob.type.startsWith("image/")) {
    const image = document.createElement("img");
    image.src = url;
    image.alt = "the result";
    output.replaceChildren(image);
  } else {
    const link = document.createElement("a");
    link.href = url;
    link.download = name;
    link.textContent = `save ${name}, ${blob.size.toLocaleString()} bytes (${blob.type})`;
    output.replaceChildren(link);
  }
}

$("#access").addEventListener("submit", (/** @type {Event} */ event) => {
  event.preventDefault();
  load();
});
load();
