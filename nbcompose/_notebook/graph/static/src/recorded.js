// The arguments and the answer of a call, where they are recorded.

/** @import { CallValues, SpanRow } from "./messages.d.ts" */

import { button, h } from "../../../../_replica/http/static/elements.js";
import { plural } from "../../../../_replica/http/static/words.js";
import { callWords, ending } from "./timeline.js";

/**
 * What came of a call, as label and text: the answer, items of a stream, the error.
 *
 * @param {CallValues} call
 * @returns {{label: string, text: string}[]}
 */
export function outcomeParts(call) {
  const parts = [];
  if (call.items !== null) {
    const between = call.items > call.first.length + call.last.length ? ["…"] : [];
    parts.push({ label: plural(call.items, "item"), text: [...call.first, ...between, ...call.last].join("\n") });
  } else if (call.answer !== null) parts.push({ label: "answer", text: call.answer });
  const { words } = ending(call.error);
  if (words === "cancelled") parts.push({ label: words, text: "by its caller" });
  else if (words) parts.push({ label: "error", text: words });
  return parts;
}

/**
 * One call of a waterfall. `values`: null while they are not known; undefined where nothing is recorded.
 *
 * @param {SpanRow} row
 * @param {CallValues | null | undefined} values
 * @param {(service: string) => void} choose
 */
export function recordedCall(row, values, choose) {
  const open = button(`Open ${row.service}`, () => choose(row.service), { class: "nbc-button nbc-quiet" });
  const head = h("div.nbc-inline", {}, h("b", {}, callWords(row)), h("span.nbc-space"), open);
  return h("div.nbc-recorded", { role: "group", "aria-label": `${row.service}.${row.api}` }, head, ...body(values));
}

/** @param {CallValues | null | undefined} values */
function body(values) {
  if (values === null) return [h("div.nbc-dim", {}, "…")];
  if (values === undefined) return [h("div.nbc-dim", {}, "Arguments and answers are not recorded here.")];
  if (values.why_not) return [h("div.nbc-dim", {}, values.why_not)];
  const given = values.arguments.map(({ name, text }) => ({ label: name, text }));
  const entries = [...given, ...outcomeParts(values)].flatMap(({ label, text }, at) => [
    h(at < given.length ? "dt" : "dt.nbc-came", {}, label),
    h("dd.nbc-code", {}, text),
  ]);
  const now = values.held ? [h("div.nbc-dim", {}, "Objects are shown as they are now.")] : [];
  return [h("dl.nbc-values", {}, ...entries), ...now];
}
