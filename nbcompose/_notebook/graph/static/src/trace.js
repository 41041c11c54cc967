// The Trace tab of a service.

/** @import { Summary } from "./messages.d.ts" */
/** @import { Choose, Kernel, Tab } from "./types.d.ts" */

import { h, parts } from "../../../../_replica/http/static/elements.js";
import { plural, time } from "../../../../_replica/http/static/words.js";
import { ending } from "./timeline.js";
import { waterfall } from "./waterfall.js";

/**
 * The last calls, and one of them as a waterfall.
 *
 * @param {Kernel} kernel
 * @param {string} _name
 * @param {Choose} choose
 * @returns {Tab}
 */
export function traceTab(kernel, _name, choose) {
  const list = h("div.nbc-traces", { role: "listbox", "aria-label": "calls, the newest first" });
  const drawing = h("div.nbc-waterfall");
  const element = h("div.nbc-tab-body.nbc-split", {}, list, drawing);
  let known = "";
  let chosen = "";
  const ask = () => kernel.send({ type: "traces" });
  // The panel of another service goes on with the same trace.
  /** @param {string} service */
  const select = (service) => choose(service, { tab: "Trace", trace: chosen });

  const rows = () => parts(list, "[data-trace]");

  /** @param {string} trace */
  function pick(trace) {
    chosen = trace;
    for (const row of rows()) row.setAttribute("aria-selected", String(row.dataset.trace === trace));
    kernel.send({ type: "trace", trace });
  }

  /** @param {Summary[]} traces */
  function fill(traces) {
    const now = JSON.stringify(traces);
    if (now === known) return;
    known = now;
    const focused = rows().find((row) => row === document.activeElement)?.dataset.trace;
    list.replaceChildren(...traces.map((t) => traceRow(t, t.trace === chosen, pick)));
    if (!traces.length) list.append(h("div.nbc-dim", {}, "No call yet."));
    else if (!traces.some((t) => t.trace === chosen)) pick(traces[0].trace);
    if (focused)
      rows()
        .find((row) => row.dataset.trace === focused)
        ?.focus();
  }

  list.addEventListener("keydown", (event) => {
    const all = rows();
    const at = all.findIndex((row) => row.contains(document.activeElement));
    const row = event.key === "ArrowDown" ? all[at + 1] : event.key === "ArrowUp" ? all[at - 1] : undefined;
    if (at < 0 || !row) return;
    event.preventDefault();
    row.focus();
    pick(row.dataset.trace ?? "");
  });
  ask();
  return {
    element,
    update() {},
    hear(message) {
      if (message.type === "traces") fill(message.traces);
      else if (message.type === "trace" && message.trace === chosen)
        drawing.replaceChildren(waterfall(message.rows, select));
    },
    tick: ask,
    show: pick,
    close() {},
  };
}

/** @param {Summary} trace @param {boolean} selected @param {(trace: string) => void} pick */
function traceRow(trace, selected, pick) {
  const when = new Date(trace.start * 1000).toLocaleTimeString();
  const facts = `${time(trace.seconds)} · ${plural(trace.spans, "span")} · ${when}`;
  const text = [h("span.nbc-root", {}, trace.root), h("span.nbc-dim", {}, facts)];
  const { words, look } = ending(trace.error);
  return h(
    `button.nbc-trace${look}`,
    {
      type: "button",
      role: "option",
      "data-trace": trace.trace,
      "aria-selected": String(selected),
      title: words,
      onclick: () => pick(trace.trace),
    },
    ...text,
  );
}
