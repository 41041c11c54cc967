// Shows the service that serves this page, from its OpenAPI document, and calls its apis.

/** @import { Problem, Schema } from "./types.d.ts" */
/** @typedef {Record<string, {schema: Schema}>} Contents by media type */
/** @typedef {{summary?: string, description?: string, operationId?: string, requestBody?: {content: Contents},
 *   responses: Record<string, {content?: Contents}>,
 *   "x-nbcompose-params"?: {name: string, kind: string, text: string, required: boolean}[],
 *   "x-nbcompose-stream-params"?: string[]}} Operation */
/** @typedef {{info: {title: string, summary?: string, description?: string},
 *   paths: Record<string, {post?: Operation}>}} OpenApi */
/** @typedef {{type: string, message: string, id: string, problems?: Problem[]}} Failure */

import { h } from "./elements.js";
import { form } from "./form.js";
import { bodyLines } from "./items.js";
import { outcome } from "./outcome.js";
import { curlLine, curlOfLines, request } from "./requests.js";
import { failure, shown } from "./result.js";
import { resolved, typeName } from "./schema.js";
import { messageOf } from "./values.js";

const JSON_TYPE = "application/json";
const NDJSON = "application/x-ndjson";
/** What docs.html has, which this page knows. @param {string} selector @param {ParentNode} within @returns {any} */
const $ = (selector, within = document) => within.querySelector(selector);

/** Behind a Jupyter server, which puts the service's token in: `nbcompose/at/…`. */
const throughJupyter = /\/nbcompose\/at\/./.test(location.pathname);

/** Against forged requests Jupyter wants the value of its cookie; of several, a hub's is not the last. */
const xsrfToken = () => [...document.cookie.matchAll(/(?:^|; )_xsrf=([^;]+)/g)].at(-1)?.[1];

/** @returns {Record<string, string>} */
function authorization() {
  if (throughJupyter) {
    const xsrf = xsrfToken();
    return xsrf ? { "X-XSRFToken": xsrf } : {};
  }
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
    if (!throughJupyter) $("#token").focus();
    return;
  }
  status.classList.remove("error");
}

/** @param {OpenApi} openapi */
function show(openapi) {
  $("#title").textContent = document.title = openapi.info.title;
  $("#about").textContent = docstring(openapi.info);
  const sections = Object.entries(openapi.paths)
    .map(([route, { post }]) => post && apiSection(route, post, openapi))
    .filter((section) => section !== undefined);
  $("#apis").replaceChildren(...sections);
}

/** @param {string} route @param {Operation} operation @param {OpenApi} openapi @returns {HTMLElement} */
function apiSection(route, operation, openapi) {
  const section = $("#api").content.firstElementChild.cloneNode(true);
  const name = operation.operationId || route;
  const results = operation.responses["200"]?.content || {};
  const fields = form(description(operation, openapi));
  const result = outcome(name);
  const [area, accept] = [$("form", section), $(".accept", section)];
  $(".name", section).textContent = name;
  const taken = params(operation).map((p) => p.text);
  $(".signature", section).textContent = `(${taken.join(", ")})`;
  $(".route", section).textContent = `POST ${route}`;
  // The summary of an api without a docstring is its signature, which stands above.
  const about = docstring(operation);
  const isSignature = about.startsWith(`${name}(`) && taken.every((text) => about.includes(text));
  $(".doc", section).textContent = isSignature ? "" : about;
  $(".returns code", section).textContent = returned(results, openapi);
  area.prepend(...fields.elements);
  area.after(result.element);
  accept.hidden = Object.keys(results).length < 2;
  $("select", accept).append(...Object.keys(results).map((type) => new Option(type)));
  const curl = () => {
    const secured = throughJupyter || "Authorization" in authorization();
    const values = fields.valid();
    const lines = bodyLines(values, streams(operation));
    const url = address(route);
    const saves = givesFile(results);
    $(".set-token", section).hidden = !secured;
    $(".curl", section).textContent = lines
      ? curlOfLines(url, lines, secured, saves)
      : curlLine(url, request(rootOf(operation), values), secured, saves);
  };
  for (const event of ["input", "change"]) area.addEventListener(event, curl);
  curl();
  area.addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    const values = fields.values();
    if (values) call(route, request(rootOf(operation), values), section, fields, result);
    else result.hide();
  });
  return section;
}

/** @param {{summary?: string, description?: string}} about */
const docstring = ({ summary, description }) => [summary, description].filter(Boolean).join("\n\n");

/** @param {Operation} operation */
const params = (operation) => operation["x-nbcompose-params"] ?? [];

/** The parameters that take a stream. @param {Operation} operation */
const streams = (operation) => operation["x-nbcompose-stream-params"] ?? [];

/** The parameter that is the whole body, as the body of a form is not. @param {Operation} operation */
function rootOf(operation) {
  const all = params(operation);
  return all.length === 1 && all[0].kind === "positional_only" ? all[0].name : "";
}

/** @param {Operation} operation @param {OpenApi} root */
function description(operation, root) {
  const inputs = operation.requestBody?.content || {};
  const parts = resolved(inputs["multipart/form-data"]?.schema, root).properties ?? {};
  const schema = inputs[JSON_TYPE]?.schema;
  const name = rootOf(operation);
  const required = params(operation).flatMap((p) => (p.required ? [p.name] : []));
  // Over plain HTTP a browser sends a body whole, before it reads the answer: nothing can be typed meanwhile.
  const whole = name ? { properties: { [name]: schema }, required } : schema;
  return { schema: whole, root, parts, reads: false, streams: streams(operation) };
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

/**
 * @param {string} route
 * @param {RequestInit} body
 * @param {HTMLElement} section
 * @param {ReturnType<typeof form>} fields
 * @param {ReturnType<typeof outcome>} result
 */
async function call(route, body, section, fields, result) {
  const [button, stop] = [$("[type=submit]", section), $(".stop", section)];
  const controller = new AbortController();
  const start = performance.now();
  const seconds = () => (performance.now() - start) / 1000;
  stop.onclick = () => controller.abort();
  const busy = (/** @type {boolean} */ on) => {
    const [now, next] = on ? [button, stop] : [stop, button];
    const hadFocus = document.activeElement === now;
    [button.disabled, stop.hidden] = [on, !on];
    if (hadFocus) next.focus();
  };
  busy(true);
  result.begin();
  try {
    const headers = { ...body.headers, ...authorization(), Accept: $(".accept select", section).value || "*/*" };
    const response = await fetch(address(route), { ...body, method: "POST", headers, signal: controller.signal });
    if (!response.ok) throw new Refused((await response.json()).error);
    await display(response, result, seconds);
  } catch (error) {
    if (error instanceof Error && error.name === "AbortError") result.end("cancelled", "stopped after", seconds());
    else result.end("failed", "failed after", seconds(), ...failure(told(error)));
    if (error instanceof Refused) fields.problems(error.failure.problems ?? []);
  } finally {
    busy(false);
  }
}

/** What the service answers, or a stream ends with, in place of a result. */
class Refused extends Error {
  /** @param {Failure} failure */
  constructor(failure) {
    super(failure.message);
    this.failure = failure;
  }
}

/** @param {unknown} error */
function told(error) {
  if (!(error instanceof Refused)) return { name: "Error", message: messageOf(error) };
  const { type, message, id } = error.failure;
  return { name: type, message: `${message}\n(id ${id})` };
}

/** @param {Response} response @param {ReturnType<typeof outcome>} result @param {() => number} seconds */
async function display(response, result, seconds) {
  const mediaType = response.headers.get("Content-Type") || "";
  if (mediaType.startsWith(NDJSON)) {
    let rest = "";
    for await (const text of textOf(response)) {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      // One by one: those before a line that tells of an error are shown.
      for (const line of lines) result.items([itemOf(line)]);
    }
    return result.end("done", "", seconds());
  }
  if (mediaType.startsWith("text/")) {
    for await (const text of textOf(response)) result.text(text);
    return result.end("done", "done in", seconds());
  }
  const isJson = mediaType.startsWith(JSON_TYPE);
  const element = isJson
    ? shown({ "text/plain": JSON.stringify(await response.json(), null, 2) })
    : fileElement(await response.blob(), fileName(response));
  return result.end("done", "done in", seconds(), element);
}

/** Safari cannot iterate a ReadableStream. @param {Response} response */
async function* textOf(response) {
  const stream = /** @type {ReadableStream} */ (response.body).pipeThrough(new TextDecoderStream());
  const reader = stream.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) yield part.value;
}

/** @param {string} line */
function itemOf(line) {
  const item = JSON.parse(line);
  if (item?.error?.id) throw new Refused(item.error);
  return { "text/plain": typeof item === "string" ? item : `${line}\n` };
}

/** @param {Response} response */
function fileName(response) {
  const disposition = response.headers.get("Content-Disposition") || "";
  const encoded = disposition.match(/filename\*=UTF-8''([^;]+)/);
  return encoded ? decodeURIComponent(encoded[1]) : disposition.match(/filename="([^"]*)"/)?.[1] || "result";
}

/** @param {Blob} blob @param {string} name */
function fileElement(blob, name) {
  const url = URL.createObjectURL(blob);
  if (blob.type.startsWith("image/")) return h("img.nbc-image", { src: url, alt: "the result" });
  return h("a", { href: url, download: name }, `save ${name}, ${blob.size.toLocaleString()} bytes (${blob.type})`);
}

$("#access").addEventListener("submit", (/** @type {Event} */ event) => {
  event.preventDefault();
  load();
});
if (throughJupyter) {
  // A terminal has no cookie: there, Jupyter's own token goes where a service's would.
  for (const element of document.querySelectorAll("#access label, #access input, #access button")) element.remove();
  $(".set-token", $("#api").content).prepend("NBCOMPOSE_TOKEN is Jupyter's token here. ");
}
load();
