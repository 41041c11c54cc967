// The panel of the chosen service.

/** @import { Service } from "./messages.d.ts" */
/** @import { Choose, Heard, Kernel, Tab, TabName } from "./types.d.ts" */

import { button, fresh, h, part, parts } from "../../../../_replica/http/static/elements.js";
import { actions } from "./actions.js";
import { callTab } from "./call.js";
import { logsTab } from "./logs.js";
import { numbersTab } from "./numbers.js";
import { question } from "./question.js";
import { factWords, noteLines } from "./sentences.js";
import { traceTab } from "./trace.js";

/** @type {Record<TabName, (kernel: Kernel, name: string, choose: Choose) => Tab>} */
const TABS = { Call: callTab, Trace: traceTab, Numbers: numbersTab, Logs: logsTab };

/** @type {Record<string, string>} */
const DONE = { restart: "restarted", rollback: "rolled back" }; // the rest can be seen
const NEWS = 6000; // ms for which it is said that something was done

/** @param {Kernel} kernel @param {string} name @param {Choose} choose @param {() => void} leave */
export function panel(kernel, name, choose, leave) {
  const state = h("span.nbc-chip");
  const facts = h("div.nbc-facts.nbc-dim");
  const notes = h("div.nbc-notes");
  const asking = question();
  const said = h("span.nbc-note", { role: "status" });
  const acts = actions(kernel, name, asking.ask);
  const close = button("×", leave, { "aria-label": "close the panel", class: "nbc-button nbc-quiet nbc-close" });
  const head = h(
    "div.nbc-head",
    {},
    h("div.nbc-title", {}, h("b.nbc-name", { title: name, dir: "auto" }, name), state),
    h("div.nbc-acts", {}, ...acts.elements),
    said,
    close,
  );
  const tabs = h("div.nbc-tabs", { role: "tablist", "aria-label": name });
  const body = h("div.nbc-body", { role: "tabpanel", id: fresh() });
  const element = h(
    "section.nbc-panel",
    { "aria-label": `${name}: calls, traces, logs` },
    head,
    asking.element,
    facts,
    notes,
    tabs,
    body,
  );
  /** @type {Partial<Record<TabName, Tab>>} */
  const made = {};
  /** @type {TabName} */
  let shownTab = "Call";
  let noted = "";
  let serving = 0; // the version that did when something was said
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let saying;
  /** @type {Service | null} */
  let service = null;
  const names = /** @type {TabName[]} */ (Object.keys(TABS));
  const focusTab = () => part(tabs, '[aria-selected="true"]').focus();

  /** @param {TabName} tab */
  function show(tab) {
    shownTab = tab;
    const opened = made[tab] ?? TABS[tab](kernel, name, choose);
    made[tab] = opened;
    for (const t of parts(tabs, "[role=tab]")) {
      t.setAttribute("aria-selected", String(t.dataset.tab === tab));
      t.tabIndex = t.dataset.tab === tab ? 0 : -1;
    }
    body.replaceChildren(opened.element);
    if (service) opened.update(service);
    opened.tick();
  }

  /** Say how something went: for a while, or until another version serves. @param {string} words @param {boolean} stays */
  function say(words, stays) {
    clearTimeout(saying);
    said.textContent = words;
    serving = stays && service ? service.serving : 0;
    if (!stays) saying = setTimeout(() => say("", true), NEWS);
  }

  /** @param {Service | null} now */
  function note(now) {
    const lines = noteLines(now);
    const error = now?.state === "failed" ? now.error : "";
    const text = JSON.stringify([lines, error]);
    if (text === noted) return;
    noted = text;
    notes.replaceChildren(...lines.map((line) => h("div", {}, `⚠ ${line}`)));
    if (error) notes.append(h("pre.nbc-traceback", { tabindex: "0", "aria-label": "traceback" }, error));
  }

  for (const tab of names) {
    const attributes = {
      type: "button",
      role: "tab",
      "data-tab": tab,
      "aria-controls": body.id,
      onclick: () => show(tab),
    };
    tabs.append(h("button.nbc-tab", attributes, tab));
  }
  tabs.addEventListener("keydown", (event) => {
    const step = event.key === "ArrowRight" ? 1 : -1;
    if (step < 0 && event.key !== "ArrowLeft") return;
    event.preventDefault();
    show(names[(names.indexOf(shownTab) + step + names.length) % names.length]);
    focusTab();
  });
  element.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.preventDefault();
    if (!asking.answer()) leave();
  });

  return {
    element,
    name,
    /** Come to be seen, at the tab that was left or at `tab`. @param {TabName} [tab] @param {string} [trace] */
    open(tab = shownTab, trace = "") {
      show(tab);
      if (trace) made[tab]?.show?.(trace);
    },
    focus: focusTab,
    /** @param {Service | null} now @param {string[]} dependents */
    update(now, dependents) {
      service = now;
      state.textContent = now ? now.phase || now.coming || now.reason || now.state : "stopped";
      state.title = state.textContent;
      state.className = `nbc-chip nbc-${now?.state ?? "stopped"}`;
      facts.textContent = facts.title = factWords(now);
      note(now);
      if (serving && now && now.serving !== serving) say("", true);
      const held = acts.update(now, dependents);
      if (held) now ? focusTab() : close.focus();
      if (now) made[shownTab]?.update(now);
    },
    /** @param {Heard} message */
    hear(message) {
      Object.values(made).forEach((tab) => tab.hear(message));
      if (!("service" in message) || message.service !== name) return;
      if (message.type === "done") say(DONE[message.action] ?? "", false);
      else if (message.type === "failed" && !["form", "call", "feed", "end_feed"].includes(message.action))
        say(message.message, true);
    },
    tick: () => made[shownTab]?.tick(),
    close() {
      clearTimeout(saying);
      Object.values(made).forEach((tab) => tab.close());
    },
  };
}
