// Which traces are looked for.

/** @import { Service, TracesRequest } from "./messages.d.ts" */

import { h } from "../../../../_replica/http/static/elements.js";

/** @typedef {{service: string, api: string, state: string, time: string, text: string}} Choices "" is any */

const STATES = ["answered", "failed", "cancelled"];
/** @type {Record<string, number>} in seconds */
const TIMES = { "last minute": 60, "last 10 minutes": 600, "last hour": 3600 };

/**
 * The request for the traces that were chosen.
 *
 * @param {Choices} choices
 * @param {number} now in seconds
 * @returns {TracesRequest}
 */
export function tracesRequest({ service, api, state, time: ago, text }, now) {
  /** @type {TracesRequest} */
  const request = { type: "traces" };
  if (service) request.service = service;
  if (service && api) request.api = api;
  if (state) request.state = /** @type {TracesRequest["state"]} */ (state);
  if (TIMES[ago]) request.since = now - TIMES[ago];
  if (text.trim()) request.text = text.trim();
  return request;
}

/**
 * The fields in which they are chosen; `changed` is called when another choice was made.
 *
 * @param {() => Service[]} services
 * @param {string} first the service that is chosen at first
 * @param {() => void} changed
 */
export function traceSearch(services, first, changed) {
  /** @param {string} label @param {string} any */
  const choice = (label, any) =>
    h("select.nbc-input", { "aria-label": label, onchange: () => onChoice() }, h("option", { value: "" }, any));
  const service = choice("service of the calls", "every service");
  const api = choice("api of the calls", "every api");
  const state = choice("how they ended", "however it ended");
  const ago = choice("when they began", "at any time");
  options(state, STATES);
  options(ago, Object.keys(TIMES));
  const label = "search in names, errors, arguments and answers";
  const text = h("input.nbc-input", { type: "search", placeholder: "search", "aria-label": label, title: label });
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let typing;
  text.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(changed, 300);
  });

  function onChoice() {
    renew();
    changed();
  }

  /** The services and apis that there are. */
  function renew() {
    const known = services();
    const names = known.map((s) => s.name);
    options(service, names.includes(first) ? names : [...names, first]);
    const of = known.find((s) => s.name === service.value);
    options(api, of ? of.apis.map((a) => a.name) : []);
    api.hidden = !of;
  }

  // Also where it is not there yet, or not any more: its calls are.
  options(service, [first]);
  service.value = first;
  renew();
  return {
    element: h("div.nbc-wanted", { role: "search" }, text, service, api, state, ago),
    renew,
    /** Look for what is looked for at first. */
    clear() {
      for (const field of [text, api, state, ago]) field.value = "";
      service.value = first;
      renew();
    },
    /** @returns {Choices} */
    choices: () => ({
      service: service.value,
      api: api.value,
      state: state.value,
      time: ago.value,
      text: text.value,
    }),
  };
}

/** Offer these besides the first one; what was chosen stays, where it is still there. @param {HTMLSelectElement} select @param {string[]} names */
function options(select, names) {
  const before = [...select.options].slice(1).map((o) => o.value);
  if (before.join("\n") === names.join("\n")) return;
  const chosen = select.value;
  while (select.options.length > 1) select.remove(1);
  select.append(...names.map((name) => h("option", { value: name }, name)));
  select.value = names.includes(chosen) ? chosen : "";
}
