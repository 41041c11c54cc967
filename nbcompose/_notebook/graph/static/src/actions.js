// Restart, stop, scale, roll back: those that hurt ask first.

/** @import { Act, Service } from "./messages.d.ts" */
/** @import { Ask, Kernel } from "./types.d.ts" */

import { button, h } from "../../../../_replica/http/static/elements.js";
import { stopWords } from "./sentences.js";

/** @param {Kernel} kernel @param {string} name @param {Ask} ask */
export function actions(kernel, name, ask) {
  let wanted = 1;
  /** @type {string[]} */
  let needed = [];
  /** @param {Act["type"]} type */
  const send = (type) => kernel.send({ type, service: name });
  /** @param {number} replicas */
  const scaleTo = (replicas) => kernel.send({ type: "scale", service: name, replicas });
  const replaced = `Restart ${name}? New replicas take over from those that run.`;
  const restart = button("Restart", () => ask(replaced, "Restart", () => send("restart")));
  const stop = button("Stop", () => ask(stopWords(name, needed), "Stop", () => send("stop")));
  const undone = `Roll ${name} back to the version before?`;
  const back = button("Roll back", () => ask(undone, "Roll back", () => send("rollback")), {
    class: "nbc-button nbc-back",
  });
  const take = () => scaleTo(wanted - 1);
  const fewer = button("−", () => ask(`Take one replica of ${name} away?`, "Take away", take), {
    "aria-label": "one replica fewer",
  });
  const more = button("+", () => scaleTo(wanted + 1), { "aria-label": "one replica more" });
  const count = h("span.nbc-count", { title: "replicas" }, "1");
  const scale = h("span.nbc-scale", { role: "group", "aria-label": "replicas" }, fewer, count, more);
  return {
    elements: [back, scale, restart, stop], // they stand at the right: what comes and goes is the first
    /**
     * Returns whether a button that cannot be used any more had the focus.
     *
     * @param {Service | null} service
     * @param {string[]} dependents
     */
    update(service, dependents) {
      [wanted, needed] = [service?.wanted ?? 1, dependents];
      count.textContent = String(wanted);
      const held = document.activeElement;
      fewer.disabled = !service || wanted <= 1;
      for (const b of [more, restart, stop]) b.disabled = !service;
      back.hidden = !service?.reversible;
      return [fewer, more, restart, stop, back].some((b) => b === held && (b.disabled || b.hidden));
    },
  };
}
