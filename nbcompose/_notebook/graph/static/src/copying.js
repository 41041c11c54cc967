// What has been filled in, as code for the notebook and for outside.

/** @import { Source } from "../../../../_replica/http/static/types.d.ts" */
/** @import { Copies, Form, Param } from "./messages.d.ts" */
/** @typedef {Pick<Form, "params" | "root" | "copies" | "call" | "lines" | "events">} Copied */
/** @typedef {(source: Source) => Copied | null} FormOf */

import { h } from "../../../../_replica/http/static/elements.js";
import { bodyLines } from "../../../../_replica/http/static/items.js";

/** A JSON value as Python. @param {any} value @returns {string} */
function python(value) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (value?.$upload) return "...";
  if (value?.$typed) return python(value.$typed.items);
  if (value?.$variable) return value.$variable;
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value === "object") {
    const items = Object.entries(value).map(([k, v]) => `${python(k)}: ${python(v)}`);
    return `{${items.join(", ")}}`;
  }
  return JSON.stringify(value);
}

/** Text as one word of a shell. @param {string} text */
const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/**
 * An argument of a call. `many`: there are `*args`, and Python takes no names before these.
 *
 * @param {string} name
 * @param {string} value as Python
 * @param {Param["kind"]} kind
 * @param {boolean} many
 */
function argument(name, value, kind, many) {
  if (kind === "var_positional") return `*${value}`;
  if (kind === "var_keyword") return `**${value}`;
  const bare = kind === "positional_only" || (many && kind === "positional_or_keyword");
  return bare ? value : `${name}=${value}`;
}

/** @param {Copied} form */
const streamsOf = (form) => form.params.filter((p) => p.stream).map((p) => p.name);

/**
 * The arguments of a call as Python; null where the form of a stream is not known.
 *
 * @param {Copied} form
 * @param {Record<string, any>} values
 * @param {FormOf} formOf
 */
function pythonArguments(form, values, formOf) {
  const kinds = Object.fromEntries(form.params.map((p) => [p.name, p.kind]));
  const many = Object.keys(values).some((name) => kinds[name] === "var_positional");
  const streams = streamsOf(form);
  const found = [];
  for (const [name, value] of Object.entries(values)) {
    const source = streams.includes(name) ? value?.$stream : null;
    const text = source ? pythonStream(source, formOf) : python(value);
    if (text === null) return null;
    found.push(argument(name, text, kinds[name], many));
  }
  return found.join(", ");
}

/** @param {Source & {arguments: Record<string, any>}} source @param {FormOf} formOf @returns {string | null} */
function pythonStream(source, formOf) {
  const form = formOf(source);
  const args = form && pythonArguments(form, source.arguments, formOf);
  return form?.call && args !== null ? form.call.replace("%(arguments)s", () => args) : null;
}

/** What curl is to ask for, which else gets lines: only events say where a stream has ended. */
const EVENTS = "-H 'Accept: text/event-stream'";

/**
 * A call whose stream is that of a service as a pipe of two; null where a shell has none.
 *
 * @param {Copied} form
 * @param {Record<string, any>} values
 * @param {FormOf} formOf
 */
function piped(form, values, formOf) {
  const [stream] = streamsOf(form);
  const source = values[stream]?.$stream;
  const made = source && formOf(source);
  const rest = Object.entries(values).filter(([name]) => name !== stream);
  const isPlain = rest.every(([, value]) => value !== null && !value?.$upload);
  if (!form.events || !made || !isPlain || form.params.some((p) => p.kind.startsWith("var_"))) return null;
  // Of a stream that is typed or listed the items go in the body.
  const first = copied({ ...made, lines: undefined }, "terminal", source.arguments, formOf);
  const query = rest.map(([name, value]) => `${address(name)}=${address(value)}`).join("&");
  return first && `${first} ${EVENTS} |\n  ${form.events.replace("%(query)s", () => (query ? `?${query}` : ""))}`;
}

/** A value in an address between the quotes of a shell. @param {any} value */
const address = (value) =>
  encodeURIComponent(typeof value === "string" ? value : JSON.stringify(value)).replaceAll("!", "%21");

/** Whether a variable of the notebook is filled in. @param {any} value @returns {boolean} */
export const usesVariable = (value) =>
  typeof value === "object" && value !== null && ("$variable" in value || Object.values(value).some(usesVariable));

/**
 * One of `form.copies`, with what has been filled in; null where that has streams of services that code of this kind
 * cannot name.
 *
 * @param {Copied} form
 * @param {keyof Copies} kind
 * @param {Record<string, any>} values by parameter
 * @param {FormOf} formOf of the apis whose streams are among the values
 * @returns {string | null}
 */
export function copied(form, kind, values, formOf = () => null) {
  const streams = streamsOf(form);
  if (kind !== "python" && streams.some((name) => values[name]?.$stream)) {
    return kind === "terminal" ? piped(form, values, formOf) : null;
  }
  const args = pythonArguments(form, values, formOf);
  if (args === null) return null;
  const plain = JSON.parse(JSON.stringify(values), (_, v) => v?.$upload?.data ?? v?.$typed?.items ?? v);
  const body = form.root ? (plain[form.root] ?? null) : plain;
  const lines = kind === "terminal" && form.lines ? bodyLines(plain, streams) : null;
  const template = (lines && form.lines) || form.copies[kind];
  /** @type {Record<string, () => string>} */
  const parts = {
    "%(arguments)s": () => args,
    "%(dict)s": () => python(body),
    "%(json)s": () => JSON.stringify(body),
    "%(shell)s": () => shell(JSON.stringify(body)),
    "%(lines)s": () => (lines ?? []).map(shell).join(" "),
  };
  return template.replace(/%\((arguments|dict|json|shell|lines)\)s/g, (found) => parts[found]());
}

/** @param {string} text */
export async function toClipboard(text) {
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
