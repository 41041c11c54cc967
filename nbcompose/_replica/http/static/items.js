// The items of a stream from what was typed, and how they are written elsewhere. No DOM here.

/** @import { ItemKind, Schema } from "./types.d.ts" */

import { jsonFrom, messageOf, numberFrom, textFrom } from "./values.js";

/** How an item is written in a line. @param {Schema} schema of an item, without references @returns {ItemKind} */
export function itemKind(schema) {
  if (schema.enum) return schema.enum.every((value) => typeof value === "string") ? "text" : "json";
  if ("const" in schema) return "json";
  if (schema.type === "string") return "text";
  if (schema.type === "integer" || schema.type === "number") return "number";
  return schema.type === "boolean" ? "boolean" : "json";
}

/** One item; throws what is wrong. @param {Schema} schema @param {ItemKind} kind @param {string} text */
export function itemFrom(schema, kind, text) {
  if (kind === "json") return jsonFrom(schema, text);
  if (kind === "text") {
    if (schema.enum && !schema.enum.includes(text)) throw new Error(`"${text}" is none of ${schema.enum.join(", ")}`);
    return textFrom(schema, text);
  }
  const word = text.trim();
  if (kind === "boolean") {
    if (!/^(true|false)$/i.test(word)) throw new Error(`"${word}" is neither true nor false`);
    return word.toLowerCase() === "true";
  }
  if (word === "" || !Number.isFinite(Number(word))) throw new Error(`"${word}" is not a number`);
  if (schema.type === "integer" && !Number.isInteger(Number(word))) throw new Error(`${word} is not a whole number`);
  return numberFrom(schema, word);
}

/**
 * One item per line: the end of the last line begins no item, and empty lines are items among texts only.
 *
 * @param {Schema} schema of an item
 * @param {ItemKind} kind
 * @param {string} text
 */
export function itemsFrom(schema, kind, text) {
  const lines = text.split(/\r?\n/);
  if (lines.at(-1) === "") lines.pop();
  /** @type {any[]} */
  const items = [];
  lines.forEach((line, i) => {
    if (kind !== "text" && !line.trim()) return;
    try {
      items.push(itemFrom(schema, kind, line));
    } catch (error) {
      throw new Error(`line ${i + 1}: ${messageOf(error)}`);
    }
  });
  return items;
}

/** Items as lines; null where some cannot be written so. @param {ItemKind} kind @param {any[]} items */
export function writtenLines(kind, items) {
  /** @param {any} item */
  const isLine = (item) => (kind === "text" ? typeof item === "string" && !/[\r\n]/.test(item) : typeof item === kind);
  if (kind !== "json" && !items.every(isLine)) return null;
  const lines = items.map((item) => (kind === "text" ? item : JSON.stringify(item)));
  return lines.join("\n") + (lines.at(-1) === "" ? "\n" : "");
}

/**
 * The lines of a body that streams, each an object of parameters; null where one of the streams has no items to send,
 * as one that is left out.
 *
 * @param {Record<string, any>} values by parameter
 * @param {string[]} streams the parameters that take one
 */
export function bodyLines(values, streams) {
  if (!streams.length || !streams.every((name) => Array.isArray(values[name]))) return null;
  const plain = Object.entries(values).filter(([name]) => !streams.includes(name));
  const objects = plain.length ? [Object.fromEntries(plain)] : [];
  // In turn: of one alone only a few are kept while the api waits for another.
  const most = Math.max(...streams.map((name) => values[name].length));
  for (let i = 0; i < most; i += 1) {
    for (const name of streams) if (i < values[name].length) objects.push({ [name]: values[name][i] });
  }
  return (objects.length ? objects : [{}]).map((object) => JSON.stringify(object));
}
