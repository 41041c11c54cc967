// The Trace tab of a service.

/** @import { CallValues, SpanRow, Summary } from "./messages.d.ts" */
/** @import { Choose, Kernel, Tab } from "./types.d.ts" */

import { button, fresh, h, parts } from "../../../../_replica/http/static/elements.js";
import { clock, plural, time } from "../../../../_replica/http/static/words.js";
import { recordedCall } from "./recorded.js";
import { ending, shownSpan } from "./timeline.js";
import { traceSearch, tracesRequest } from "./wanted.js";
import { waterfall } from "./waterfall.js";

const SELDOM = 5; // ticks between searches for a text, which every replica looks for

/**
 * The last calls that are looked for, one of them as a waterfall, and a call of that one with its arguments and answer.
 *
 * @param {Kernel} kernel
 * @param {string} name
 * @param {Choose} choose
 * @returns {Tab}
 */
export function traceTab(kernel, name, choose) {
  const search = traceSearch(() => kernel.state().services, name, ask);
  const said = h("span.nbc-note", { role: "status" });
  const title = "forget the arguments and answers that are kept, of all services";
  const forget = button("Forget", () => kernel.send({ type: "forget" }), { title, class: "nbc-button nbc-quiet" });
  const list = h("div.nbc-traces", { role: "listbox", "aria-label": "calls, the newest first" });
  const drawing = h("div.nbc-waterfall");
  const details = h("div.nbc-details");
  const foot = h("div.nbc-inline", {}, h("span.nbc-space"), said, forget);
  const element = h(
    "div.nbc-tab-body",
    {},
    search.element,
    h("div.nbc-split", {}, list, h("div", {}, drawing, details, foot)),
  );
  let known = "";
  let summary = ""; // of the trace that is shown: calls of it that still ran end later
  let chosen = "";
  let asked = "";
  let ticks = 0;
  /** @type {SpanRow[]} */
  let rows = [];
  let span = "";
  let isPicked = false; // by the user: else the first call of the trace is shown, also when that one has come late
  /** @type {CallValues[] | null} null: not known yet */
  let values = null;

  function ask() {
    asked = fresh();
    kernel.send({ id: asked, ...tracesRequest(search.choices(), Date.now() / 1000) });
  }

  // The panel of another service goes on with the same trace.
  /** @param {string} service */
  const select = (service) => choose(service, { tab: "Trace", trace: chosen });

  const listed = () => parts(list, "[data-trace]");

  /** @param {string} trace "" for none */
  function pick(trace) {
    if (trace !== chosen) {
      [rows, span, isPicked, values] = [[], "", false, null];
      details.replaceChildren();
      drawing.replaceChildren();
    }
    chosen = trace;
    for (const row of listed()) row.setAttribute("aria-selected", String(row.dataset.trace === trace));
    if (trace) kernel.send({ type: "trace", trace });
  }

  /** @param {Summary[]} traces */
  function fill(traces) {
    const now = JSON.stringify(traces);
    if (now === known) return;
    known = now;
    const grown = traces.find((t) => t.trace === chosen && JSON.stringify(t) !== summary);
    if (grown) summary = JSON.stringify(grown);
    const focused = listed().find((row) => row === document.activeElement)?.dataset.trace;
    list.replaceChildren(...traces.map((t) => traceRow(t, t.trace === chosen, pick)));
    if (!traces.length) {
      list.append(h("div.nbc-dim", {}, noneWords(search.choices())));
      pick("");
    } else if (!traces.some((t) => t.trace === chosen)) pick(traces[0].trace);
    else if (grown) kernel.send({ type: "trace", trace: chosen });
    if (focused)
      listed()
        .find((row) => row.dataset.trace === focused)
        ?.focus();
  }

  /** Show a call of the waterfall. @param {string} of */
  function show(of) {
    span = of;
    values = null;
    kernel.send({ type: "recorded", trace: chosen });
    draw();
  }

  /** @param {string} of */
  function pickCall(of) {
    isPicked = true;
    show(of);
  }

  function draw() {
    drawing.replaceChildren(waterfall(rows, span, pickCall));
    const row = rows.find((r) => r.span === span);
    const found = values === null ? null : values.find((v) => v.span === span);
    if (row) details.replaceChildren(recordedCall(row, found, select));
  }

  list.addEventListener("keydown", (event) => {
    const all = listed();
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
    update: search.renew,
    hear(message) {
      if (message.type === "traces" && message.id === asked) fill(message.traces);
      else if (message.type === "trace" && message.trace === chosen) {
        const focused = drawing.contains(document.activeElement) && span;
        rows = message.rows;
        const now = shownSpan(rows, isPicked ? span : "");
        if (now !== span) show(now);
        else {
          draw();
          if (rows.length) kernel.send({ type: "recorded", trace: chosen });
        }
        if (focused) parts(drawing, `[data-span="${span}"]`)[0]?.focus();
      } else if (message.type === "recorded" && message.trace === chosen) {
        values = message.calls;
        draw();
      } else if (message.type === "done" && message.action === "forget") {
        said.textContent = "forgotten";
        if (chosen) kernel.send({ type: "recorded", trace: chosen });
      }
    },
    tick() {
      ticks += 1;
      if (!search.choices().text.trim() || ticks % SELDOM === 0) ask();
    },
    show(trace) {
      search.clear(); // or it might not be among those that were looked for
      ask();
      pick(trace);
    },
    close() {},
  };
}

/** @param {import("./wanted.js").Choices} choices */
export function noneWords({ service, ...others }) {
  if (Object.values(others).some(Boolean)) return "No such call.";
  return service ? `No call of ${service} yet.` : "No call yet.";
}

/** @param {Summary} trace @param {boolean} selected @param {(trace: string) => void} pick */
function traceRow(trace, selected, pick) {
  const when = clock(trace.start);
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
