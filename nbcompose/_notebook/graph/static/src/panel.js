// The panel of the chosen service. A tab returns {element, update(service), hear(message), tick(), close()}; one that
// can show a trace has show(trace), too.

import { actions } from "./actions.js";
import { callTab } from "./call.js";
import { button, fresh, h, plural } from "./elements.js";
import { logsTab } from "./logs.js";
import { nodeWords } from "./picture.js";
import { question } from "./question.js";
import { traceTab } from "./trace.js";

const TABS = { Call: callTab, Trace: traceTab, Logs: logsTab };

const DONE = { restart: "restarted", rollback: "rolled back" }; // the rest can be seen

export function panel(kernel, name, choose, leave) {
  const state = h("span.nbc-chip");
  const facts = h("span.nbc-dim");
  const notes = h("div.nbc-notes");
  const asking = question();
  const said = h("span.nbc-note", { role: "status" });
  const acts = actions(kernel, name, asking.ask);
  const close = button("×", leave, { "aria-label": "close the panel", class: "nbc-button nbc-quiet nbc-close" });
  const head = h("div.nbc-head", {}, h("b.nbc-name", {}, name), state, facts, h("span.nbc-space"), said, ...acts.elements, close);
  const tabs = h("div.nbc-tabs", { role: "tablist", "aria-label": name });
  const body = h("div.nbc-body", { role: "tabpanel", id: fresh() });
  const element = h("section.nbc-panel", { "aria-label": `${name}: calls, traces, logs` }, head, asking.element, notes, tabs, body);
  const made = {};
  let shownTab = "Call";
  let noted = "";
  let service = null;

  function show(tab) {
    shownTab = tab;
    made[tab] ??= TABS[tab](kernel, name, choose);
    for (const t of tabs.children) {
      t.setAttribute("aria-selected", String(t.dataset.tab === tab));
      t.tabIndex = t.dataset.tab === tab ? 0 : -1;
    }
    body.replaceChildren(made[tab].element);
    if (service) made[tab].update(service);
    made[tab].tick();
  }

  function note(now) {
    const lines = noteLines(now);
    const error = now?.state === "failed" ? now.error : "";
    const text = JSON.stringify([lines, error]);
    if (text === noted) return;
    noted = text;
    notes.replaceChildren(...lines.map((line) => h("div", {}, `⚠ ${line}`)));
    if (error) notes.append(h("pre.nbc-traceback", { tabindex: "0", "aria-label": "traceback" }, error));
  }

  for (const tab of Object.keys(TABS)) {
    const attributes = { type: "button", role: "tab", "data-tab": tab, "aria-controls": body.id, onclick: () => show(tab) };
    tabs.append(h("button.nbc-tab", attributes, tab));
  }
  tabs.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const names = Object.keys(TABS);
    show(names[(names.indexOf(shownTab) + step + names.length) % names.length]);
    tabs.querySelector('[aria-selected="true"]').focus();
  });
  element.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.preventDefault();
    if (!asking.answer()) leave();
  });

  return {
    element,
    name,
    /** Come to be seen, at the tab that was left or at `tab`. */
    open(tab = shownTab, trace = "") {
      show(tab);
      if (trace) made[tab].show?.(trace);
    },
    focus: () => tabs.querySelector('[aria-selected="true"]').focus(),
    /** @param {?Service} now @param {string[]} dependents */
    update(now, dependents) {
      service = now;
      state.textContent = now ? now.phase || now.coming || now.reason || now.state : "stopped";
      state.className = `nbc-chip nbc-${now?.state ?? "stopped"}`;
      facts.textContent = factWords(now);
      note(now);
      const held = acts.update(now, dependents);
      if (held) (now ? tabs.querySelector('[aria-selected="true"]') : close).focus();
      if (now) made[shownTab].update(now);
    },
    hear(message) {
      Object.values(made).forEach((tab) => tab.hear(message));
      if (message.service !== name) return;
      if (message.type === "done") said.textContent = DONE[message.action] ?? "";
      else if (message.type === "refused" && message.action !== "form") said.textContent = message.message;
    },
    tick: () => made[shownTab].tick(),
    close: () => Object.values(made).forEach((tab) => tab.close()),
  };
}

/** @param {?Service} service */
function factWords(service) {
  if (!service) return "";
  const errors = service.errors ? plural(service.errors, "error") : "";
  return [service.device, `${service.up}/${service.wanted} up`, nodeWords(service), errors].filter(Boolean).join(" · ");
}

/** @param {?Service} service */
function noteLines(service) {
  if (!service) return [];
  const lines = [...service.notes];
  if (service.stale.length) lines.unshift(`stale: ${service.stale.join(", ")} changed in the notebook since`);
  if (service.behind) lines.unshift(`the version before serves: ${service.behind}`);
  return lines;
}
