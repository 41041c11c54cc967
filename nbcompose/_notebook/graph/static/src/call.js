// The Call tab of a service: one of its apis, chosen from a list. What was filled in and called stays for each of them.

import { caller } from "./caller.js";
import { h } from "./elements.js";

export function callTab(kernel, name) {
  const choices = h("select.nbc-input.nbc-api", { "aria-label": "api" });
  const place = h("div.nbc-caller");
  const element = h("div.nbc-tab-body", {}, h("div.nbc-choose", {}, choices), place);
  const callers = new Map(); // by api
  let apis = "";

  function show() {
    const api = choices.value;
    if (!callers.has(api)) callers.set(api, caller(kernel, name, api));
    place.replaceChildren(callers.get(api).element);
  }

  function renew(service) {
    const before = choices.value;
    const option = (a) => h("option", { value: a.name }, a.stream ? `${a.name} (stream)` : a.name);
    choices.replaceChildren(...service.apis.map(option));
    if (service.apis.some((a) => a.name === before)) choices.value = before;
    choices.hidden = choices.parentElement.hidden = service.apis.length === 1;
    for (const [api, made] of callers) {
      if (service.apis.some((a) => a.name === api)) made.renew();
      else {
        made.close();
        callers.delete(api);
      }
    }
    show();
  }

  choices.addEventListener("change", show);
  return {
    element,
    update(service) {
      const now = JSON.stringify([service.apis, service.serving]);
      if (now === apis || !service.apis.length) return;
      apis = now;
      renew(service);
    },
    hear: (message) => callers.forEach((made) => made.hear(message)),
    tick() {},
    close: () => callers.forEach((made) => made.close()),
  };
}
