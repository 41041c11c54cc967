// The Numbers tab of a service: the last ten minutes, and how the calls of each api have ended.

/** @import { ApiNumbers, History } from "./messages.d.ts" */
/** @import { Kernel, Tab } from "./types.d.ts" */

import { h } from "../../../../_replica/http/static/elements.js";
import { bytes, time } from "../../../../_replica/http/static/words.js";
import { sparkline } from "./sparkline.js";

const PERIOD = 5; // ticks between looks
const HEADS = ["api", "answered", "failed", "refused", "cancelled", "p50, 5 min", "p95, 5 min"];

/** @param {Kernel} kernel @param {string} name @returns {Tab} */
export function numbersTab(kernel, name) {
  const lines = h("div.nbc-sparklines");
  const table = h("div.nbc-scroll");
  const element = h("div.nbc-tab-body", {}, lines, table);
  let ticks = 0;
  let limit = 0;
  let known = "";
  const ask = () => kernel.send({ type: "history", service: name });

  /** @param {History} history */
  function draw({ step, steps }) {
    const calls = steps.map((s) => s.calls);
    const last = Math.max(0, ...calls.slice(-2)); // the present step has only begun
    lines.replaceChildren(
      sparkline(`calls in ${step} s`, calls, (n) => n.toLocaleString("en"), { last }),
      sparkline(
        "p95 of answers",
        steps.map((s) => s.p95),
        time,
      ),
      sparkline(
        "failed",
        steps.map((s) => s.failed),
        (n) => `${n}`,
      ),
      sparkline(
        "memory",
        steps.map((s) => s.memory),
        bytes,
        { limit },
      ),
    );
  }

  ask();
  return {
    element,
    update(service) {
      limit = service.memory_limit ?? 0;
      const numbers = service.numbers ?? [];
      const now = JSON.stringify(numbers);
      if (now === known) return;
      known = now;
      table.replaceChildren(numbers.length ? numbersTable(numbers) : h("div.nbc-dim", {}, "No call yet."));
    },
    hear(message) {
      if (message.type === "history" && message.service === name) draw(message);
    },
    tick() {
      if (ticks % PERIOD === 0) ask();
      ticks += 1;
    },
    close() {},
  };
}

/** The cells of an api's row. @param {ApiNumbers} of */
export const numberWords = (of) => [
  of.api,
  ...[of.answered, of.failed, of.refused, of.cancelled].map((n) => n.toLocaleString("en")),
  ...[of.p50, of.p95].map((seconds) => (seconds === null ? "–" : time(seconds))),
];

/**
 * A row for each api; where that has no room, its numbers stand below its name, each with its head. The roles are said
 * since tables that are no longer laid out as such are none for screen readers.
 *
 * @param {ApiNumbers[]} numbers
 */
function numbersTable(numbers) {
  const head = h("tr", { role: "row" }, ...HEADS.map((text) => h("th", { scope: "col", role: "columnheader" }, text)));
  const rows = numbers.map((of) => {
    const [api, ...words] = numberWords(of);
    const cells = words.map((text, i) => h("td", { role: "cell", "data-head": HEADS[i + 1] }, text));
    return h("tr", { role: "row" }, h("th", { scope: "row", role: "rowheader", title: api }, api), ...cells);
  });
  const groups = [h("thead", { role: "rowgroup" }, head), h("tbody", { role: "rowgroup" }, ...rows)];
  return h("table.nbc-numbers-table", { role: "table", "aria-label": "calls of each api" }, ...groups);
}
