// Shows the service that serves this page, from its OpenAPI document, and calls its apis.

import { example, resolve, typeName } from "./examples.js";

const JSON_TYPE = "application/json";
const NDJSON = "application/x-ndjson";
const $ = (selector, within = document) => within.querySelector(selector);

function authorization() {
  const token = $("#token").value.trim();
  return token ? { Authorization: `Bearer ${token}` } : {};
}

// Addresses are relative, so that the page works behind a proxy that puts a path in front.
const address = (route) => new URL(route.replace(/^\//, ""), document.baseURI);

async function load() {
  const status = $("#status");
  try {
    const response = await fetch(address("openapi.json"), { headers: authorization() });
    if (!response.ok) throw new Error((await response.json()).error.message);
    show(await response.json());
    status.textContent = "";
  } catch (error) {
    status.textContent = String(error.message);
    status.classList.add("error");
    $("#token").focus();
    return;
  }
  status.classList.remove("error");
}

function show(openapi) {
  $("#title").textContent = document.title = openapi.info.title;
  $("#about").textContent = docstring(openapi.info);
  const sections = Object.entries(openapi.paths)
    .filter(([, item]) => item.post)
    .map(([route, item]) => apiSection(route, item.post, openapi));
  $("#apis").replaceChildren(...sections);
}

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
  const curl = () => ($(".curl", section).textContent = curlLine(route, editor.value, givesFile(results)));
  editor.addEventListener("input", curl);
  curl();
  $("form", section).addEventListener("submit", (event) => {
    event.preventDefault();
    call(route, section);
  });
  return section;
}

const docstring = ({ summary, description }) => [summary, description].filter(Boolean).join("\n\n");

function signature(operation) {
  const params = operation["x-nbcompose-params"];
  return params ? `(${params.map((p) => p.text).join(", ")})` : "";
}

// The body is the only argument itself, as the body of a form is not.
function hasRoot(operation) {
  const params = operation["x-nbcompose-params"] || [];
  return params.length === 1 && params[0].kind === "positional_only";
}

// The body as a whole may have a default ("nothing"), which would hide the parameters.
function withoutDefault(schema) {
  const { default: _, ...rest } = schema;
  return rest;
}

function fillTable(table, schema, root) {
  const required = new Set(schema.required || []);
  const rows = Object.entries(schema.properties || {}).map(([name, property]) => {
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

function cell(tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}

function returned(results, root) {
  const mediaTypes = Object.keys(results);
  if (!mediaTypes.length) return "nothing";
  if (givesFile(results)) return `a file: ${mediaTypes.filter((type) => type !== JSON_TYPE).join(", ")}; or JSON`;
  const type = typeName(results[mediaTypes[0]].schema, root);
  return mediaTypes[0] === JSON_TYPE ? type : `${type}, as ${mediaTypes.join(" or ")}`;
}

// The default comes first.
const givesFile = (results) => ![undefined, JSON_TYPE, NDJSON].includes(Object.keys(results)[0]);

function addFiles(container, inputs, root) {
  const form = resolve(inputs["multipart/form-data"]?.schema, root);
  for (const [name, property] of Object.entries(form.properties || {})) {
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

function fillAccept(label, mediaTypes) {
  label.hidden = mediaTypes.length < 2;
  $("select", label).replaceChildren(...mediaTypes.map((type) => new Option(type)));
}

function curlLine(route, body, saves) {
  const token = authorization().Authorization ? ` \\\n  -H "Authorization: Bearer $NBCOMPOSE_TOKEN"` : "";
  const quoted = body.replaceAll("'", `'\\''`);
  const output = saves ? " -o answer" : "";
  return `curl ${address(route)}${output}${token} \\\n  -H 'Content-Type: ${JSON_TYPE}' \\\n  -d '${quoted}'`;
}

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
    output.append(error.name === "AbortError" ? "stopped" : error.message);
  } finally {
    clock();
    button.disabled = false;
    stop.disabled = true;
  }
}

function send(route, section, signal) {
  const headers = { ...authorization(), Accept: $("select", section).value || "*/*" };
  const text = $("textarea", section).value;
  const files = [...section.querySelectorAll("input[type=file]")].filter((input) => input.files.length);
  let body = text;
  if (files.length) {
    const chosen = new Set(files.map((input) => input.name));
    body = new FormData();
    for (const [name, value] of Object.entries(section.dataset.root ? {} : JSON.parse(text || "{}"))) {
      // A part for text holds the text itself.
      if (!chosen.has(name)) body.append(name, typeof value === "string" ? value : JSON.stringify(value));
    }
    for (const input of files) body.append(input.name, input.files[0]);
  } else {
    headers["Content-Type"] = JSON_TYPE;
  }
  return fetch(address(route), { method: "POST", headers, body, signal });
}

function startClock(element) {
  const start = performance.now();
  const tick = () => (element.textContent = `${((performance.now() - start) / 1000).toFixed(2)} s`);
  const timer = setInterval(tick, 100);
  return () => {
    clearInterval(timer);
    tick();
  };
}

const describe = ({ error }) => `${error.type}: ${error.message}\n(id ${error.id})`;

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

async function displayStream(response, output, isNdjson) {
  let rest = "";
  for await (const text of chunks(response.body.pipeThrough(new TextDecoderStream()))) {
    const lines = (rest + text).split("\n");
    rest = isNdjson ? lines.pop() : "";
    // One by one: those before a line that tells of an error are shown.
    if (isNdjson) lines.forEach((line) => output.append(itemText(line)));
    else output.append(text);
    output.scrollTop = output.scrollHeight;
  }
}

// Safari cannot iterate a ReadableStream.
async function* chunks(stream) {
  const reader = stream.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) yield part.value;
}

function itemText(line) {
  const item = JSON.parse(line);
  if (typeof item === "string") return item;
  if (item?.error?.id) throw new Error(`\n${describe(item)}`);
  return `${line}\n`;
}

function fileName(response) {
  const disposition = response.headers.get("Content-Disposition") || "";
  const encoded = disposition.match(/filename\*=UTF-8''([^;]+)/);
  return encoded ? decodeURIComponent(encoded[1]) : disposition.match(/filename="([^"]*)"/)?.[1] || "result";
}

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

$("#access").addEventListener("submit", (event) => {
  event.preventDefault();
  load();
});
load();
