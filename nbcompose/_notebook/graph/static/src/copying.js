// What has been filled in, as code for the notebook and for outside.

/** @import { Copies, Form, Param } from "./messages.d.ts" */

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
 * @param {any} value
 * @param {Param["kind"]} kind
 * @param {boolean} many
 */
function argument(name, value, kind, many) {
  if (kind === "var_positional") return `*${python(value)}`;
  if (kind === "var_keyword") return `**${python(value)}`;
  const bare = kind === "positional_only" || (many && kind === "positional_or_keyword");
  return bare ? python(value) : `${name}=${python(value)}`;
}

/** Whether a variable of the notebook is filled in. @param {any} value @returns {boolean} */
export const usesVariable = (value) =>
  typeof value === "object" && value !== null && ("$variable" in value || Object.values(value).some(usesVariable));

/**
 * One of `form.copies`, with what has been filled in.
 *
 * @param {Pick<Form, "params" | "root" | "copies" | "lines">} form
 * @param {keyof Copies} kind
 * @param {Record<string, any>} values by parameter
 */
export function copied(form, kind, values) {
  const plain = JSON.parse(JSON.stringify(values), (_, v) => v?.$upload?.data ?? v?.$typed?.items ?? v);
  const kinds = Object.fromEntries(form.params.map((p) => [p.name, p.kind]));
  const many = Object.keys(values).some((name) => kinds[name] === "var_positional");
  const body = form.root ? (plain[form.root] ?? null) : plain;
  const args = Object.entries(values)
    .map(([name, value]) => argument(name, value, kinds[name], many))
    .join(", ");
  const streams = form.params.filter((p) => p.stream).map((p) => p.name);
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
