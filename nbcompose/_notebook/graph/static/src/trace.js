import { h, plural, time } from "./elements.js";
import { ending, waterfall } from "./waterfall.js";

/** The Trace tab: the last calls, and one of them as a waterfall. */
export function traceTab(kernel, name, choose) {
  const list = h("div.nbc-traces", { role: "listbox", "aria-label": "calls, the newest first" });
  const drawing = h("div.nbc-waterfall");
  const element = h("div.nbc-tab-body.nbc-split", {}, list, drawing);
  let known = "";
  let chosen = "";
  const ask = () => kernel.send({ type: "traces" });
  // The panel of another service goes on with the same trace.
  const select = (service) => choose(service, { tab: "Trace", trace: chosen });

  function pick(trace) {
    chosen = trace;
    for (const row of list.children) row.setAttribute("aria-selected", String(row.dataset.trace === trace));
    kernel.send({ type: "trace", trace });
  }

  function fill(traces) {
    const now = JSON.stringify(traces);
    if (now === known) return;
    known = now;
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.trace : "";
    list.replaceChildren(...traces.map((t) => traceRow(t, t.trace === chosen, pick)));
    if (!traces.length) list.append(h("div.nbc-dim", {}, "No call yet."));
    else if (!traces.some((t) => t.trace === chosen)) pick(traces[0].trace);
    if (focused) list.querySelector(`[data-trace="${focused}"]`)?.focus();
  }

  list.addEventListener("keydown", (event) => {
    const to = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    const row = to && document.activeElement[to];
    if (!row) return;
    event.preventDefault();
    row.focus();
    pick(row.dataset.trace);
  });
  ask();
  return {
    element,
    update() {},
    hear(message) {
      if (message.type === "traces") fill(message.traces);
      else if (message.type === "trace" && message.trace === chosen) drawing.replaceChildren(waterfall(message.rows, select));
    },
    tick: ask,
    show: pick,
    close() {},
  };
}

function traceRow(trace, selected, pick) {
  const when = new Date(trace.start * 1000).toLocaleTimeString();
  const facts = `${time(trace.seconds)} · ${plural(trace.spans, "span")} · ${when}`;
  const text = [h("span.nbc-root", {}, trace.root), h("span.nbc-dim", {}, facts)];
  const { words, look } = ending(trace.error);
  return h(`button.nbc-trace${look}`, {
    type: "button", role: "option", "data-trace": trace.trace, "aria-selected": String(selected), title: words,
    onclick: () => pick(trace.trace),
  }, ...text);
}
