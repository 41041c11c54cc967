// Which services a search finds.

import { plural } from "../../../../_replica/http/static/words.js";

/**
 * Those whose names have all the words, in any case; those that begin with the first word come first.
 *
 * @param {string[]} names
 * @param {string} text
 */
export function hits(names, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return [];
  const found = names.filter((name) => words.every((word) => name.toLowerCase().includes(word)));
  /** @param {string} name */
  const begins = (name) => name.toLowerCase().startsWith(words[0]);
  return [...found.filter(begins), ...found.filter((name) => !begins(name))];
}

/** @param {string[]} found @param {number} at the one that was gone to; -1: none yet */
export function hitWords(found, at) {
  if (!found.length) return "no service is called so";
  return at < 0
    ? `${plural(found.length, "service")}: Enter goes to the first`
    : `${at + 1} of ${found.length}: ${found[at]}`;
}
