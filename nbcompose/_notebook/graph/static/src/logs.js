// The Logs tab of a service.

/** @import { LogDetails, Service } from "./messages.d.ts" */
/** @import { Kernel, Tab } from "./types.d.ts" */

import { h } from "../../../../_replica/http/static/elements.js";
import { clock } from "../../../../_replica/http/static/words.js";

const LEVELS = ["info", "warning", "error", "critical"];
const AT_END = 8; // pixels from the end that count as the end

/** What is known of a line, in words: "12:03:04.512 WARNING #0 write a3f29c01". @param {LogDetails} line */
export function lineHead(line) {
  const millis = String(new Date(line.time * 1000).getMilliseconds()).padStart(3, "0");
  const parts = [`${clock(line.time)}.${millis}`, line.level.padEnd(7), `#${line.replica}`];
  return [...parts, line.api, line.trace.slice(0, 8)].filter((part) => part).join(" ");
}

/** @param {string} level */
export const levelClass = (level) =>
  ["ERROR", "CRITICAL"].includes(level) ? "nbc-log-error" : level === "WARNING" ? "nbc-log-warning" : "";

/** The last lines, followed; filters by level, api and text. @param {Kernel} kernel @param {string} name @returns {Tab} */
export function logsTab(kernel, name) {
  const level = h("select.nbc-input", { "aria-label": "the least level of the lines" });
  level.append(
    h("option", { value: "" }, "all lines"),
    ...LEVELS.map((l) => h("option", { value: l }, `${l} and above`)),
  );
  const api = h("select.nbc-input", { "aria-label": "the api that wrote the lines" });
  const filter = h("input.nbc-input", { type: "search", placeholder: "filter", "aria-label": "filter the lines" });
  const follow = h("input", { type: "checkbox", checked: true });
  const text = h("pre.nbc-logs", { tabindex: "0", "aria-label": `what ${name} wrote` });
  const choices = h("div.nbc-choices", {}, level, api, filter, h("label", {}, follow, " follow"));
  const element = h("div.nbc-tab-body", {}, choices, text);
  /** @type {string[]} */
  let lines = [];
  /** @type {LogDetails[]} */
  let details = [];
  let shown = "";
  let known = "";
  const ask = () =>
    kernel.send({
      type: "logs",
      service: name,
      lines: 500,
      ...(level.value && { level: level.value }),
      ...(api.value && { api: api.value }),
    });

  function show() {
    const wanted = filter.value.toLowerCase();
    const found = lines
      .map((line, i) => ({ line, detail: details[i] }))
      .filter(({ line, detail }) => !wanted || `${lineHead(detail)} ${line}`.toLowerCase().includes(wanted));
    const filtered = lines.length > 0 || level.value || api.value;
    const now = JSON.stringify([found, filtered]);
    if (now !== shown) {
      shown = now;
      const rows = found.map(({ line, detail }) =>
        h("div", { class: levelClass(detail.level) }, h("span.nbc-dim", {}, `${lineHead(detail)}  `), line),
      );
      text.replaceChildren(...rows);
      if (!rows.length) text.textContent = filtered ? "No matching lines." : "It has written nothing.";
    }
    if (follow.checked) text.scrollTop = text.scrollHeight;
  }

  /** @param {Service} service */
  function offer(service) {
    const names = service.apis.map((a) => a.name);
    if (names.join() === known) return;
    known = names.join();
    const chosen = api.value;
    api.replaceChildren(h("option", { value: "" }, "all apis"), ...names.map((n) => h("option", { value: n }, n)));
    api.value = names.includes(chosen) ? chosen : "";
  }

  filter.addEventListener("input", show);
  level.addEventListener("change", ask);
  api.addEventListener("change", ask);
  follow.addEventListener("change", show);
  // Who scrolls back reads there; who scrolls to the end follows again.
  text.addEventListener("wheel", () => {
    requestAnimationFrame(() => {
      follow.checked = text.scrollTop + text.clientHeight >= text.scrollHeight - AT_END;
    });
  });
  api.append(h("option", { value: "" }, "all apis"));
  ask();
  return {
    element,
    update: offer,
    hear(message) {
      if (message.type !== "logs" || message.service !== name) return;
      lines = message.lines;
      details = message.details ?? [];
      show();
    },
    tick: ask,
    close() {},
  };
}
