// The Call tab of a service: one of its apis, chosen from a list. What was filled in and called stays for each of them.

/** @import { Api, Service } from "./messages.d.ts" */
/** @import { Kernel, Tab } from "./types.d.ts" */

import { h } from "../../../../_replica/http/static/elements.js";
import { caller } from "./caller.js";

/** @param {Kernel} kernel @param {string} name @returns {Tab} */
export function callTab(kernel, name) {
  const choices = h("select.nbc-input.nbc-api", { "aria-label": "api" });
  const place = h("div.nbc-caller");
  const chooser = h("div.nbc-choose", {}, choices);
  const element = h("div.nbc-tab-body", {}, chooser, place);
  /** @type {Map<string, ReturnType<typeof caller>>} by api */
  const callers = new Map();
  let apis = "";

  function show() {
    const api = choices.value;
    const made = callers.get(api) ?? caller(kernel, name, api);
    callers.set(api, made);
    place.replaceChildren(made.element);
  }

  /** @param {Service} service */
  function renew(service) {
    const last = kernel.last();
    const before = choices.value || (last.service === name ? (last.api ?? "") : "");
    /** @param {Api} a */
    const option = (a) => h("option", { value: a.name }, a.stream ? `${a.name} (stream)` : a.name);
    choices.replaceChildren(...service.apis.map(option));
    if (service.apis.some((a) => a.name === before)) choices.value = before;
    choices.hidden = service.apis.length === 1;
    chooser.hidden = choices.hidden;
    for (const [api, made] of callers) {
      if (service.apis.some((a) => a.name === api)) made.renew();
      else {
        made.cancel();
        callers.delete(api);
      }
    }
    show();
  }

  choices.addEventListener("change", show);
  return {
    element,
    update(service) {
      callers.forEach((made) => made.offer());
      const now = JSON.stringify([service.apis, service.serving]);
      if (now === apis || !service.apis.length) return;
      apis = now;
      renew(service);
    },
    hear: (message) => callers.forEach((made) => made.hear(message)),
    tick() {},
    close() {},
  };
}
