// Values from what was typed. Each throws what is wrong, in words for whoever typed it.

/** @import { Schema, Upload } from "./types.d.ts" */

import { jsonHint } from "./schema.js";
import { plural } from "./words.js";

/** @param {Schema} schema @param {string} text */
export function textFrom(schema, text) {
  const [least, most] = [schema.minLength ?? 0, schema.maxLength ?? Infinity];
  if (text.length < least) throw new Error(`at least ${plural(least, "character")}`);
  if (text.length > most) throw new Error(`at most ${plural(most, "character")}`);
  return text;
}

/** @param {Schema} schema @param {string} text */
export function numberFrom(schema, text) {
  const number = Number(text);
  if (text === "" || !Number.isFinite(number)) throw new Error("enter a number");
  if (schema.type === "integer" && !Number.isInteger(number)) throw new Error("enter a whole number");
  if (number < (schema.minimum ?? -Infinity)) throw new Error(`at least ${schema.minimum}`);
  if (number > (schema.maximum ?? Infinity)) throw new Error(`at most ${schema.maximum}`);
  if (number <= (schema.exclusiveMinimum ?? -Infinity)) throw new Error(`more than ${schema.exclusiveMinimum}`);
  if (number >= (schema.exclusiveMaximum ?? Infinity)) throw new Error(`less than ${schema.exclusiveMaximum}`);
  return number;
}

/** @param {Schema} schema @param {string} text */
export function jsonFrom(schema, text) {
  if (text.trim() === "") throw new Error(`enter JSON, e.g. ${jsonHint(schema)}`);
  let value;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new Error(`not JSON yet: ${messageOf(error)}`);
  }
  if (schema.type === "array" && !Array.isArray(value)) throw new Error("enter a JSON list: [ … ]");
  if (schema.type === "object" && (value === null || typeof value !== "object" || Array.isArray(value))) {
    throw new Error("enter a JSON object: { … }");
  }
  return value;
}

/** Whether a text is meant as JSON rather than CSV. @param {string} text */
export const isJson = (text) => /^\s*[[{]/.test(text);

/** A text as the upload of a CSV file. @param {string} text @returns {Upload} */
export function csvUpload(text) {
  const bytes = new TextEncoder().encode(text);
  const data = btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
  return { name: "pasted.csv", type: "text/csv", data };
}

/** @param {unknown} error */
export const messageOf = (error) => (error instanceof Error ? error.message : String(error));
