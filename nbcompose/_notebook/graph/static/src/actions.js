// Restart, stop, scale, roll back: those that hurt ask first.

import { button, h } from "./elements.js";

export function actions(kernel, name, ask) {
  let wanted = 1;
  let needed = [];
  const send = (type, more = {}) => kernel.send({ type, service: name, ...more });
  const replaced = `Restart ${name}? New replicas take over from those that run.`;
  const restart = button("Restart", () => ask(replaced, "Restart", () => send("restart")));
  const stop = button("Stop", () => ask(stopWords(name, needed), "Stop", () => send("stop")));
  const undone = `Roll ${name} back to the version before?`;
  const back = button("Roll back", () => ask(undone, "Roll back", () => send("rollback")));
  const take = () => send("scale", { replicas: wanted - 1 });
  const fewer = button("−", () => ask(`Take one replica of ${name} away?`, "Take away", take), { "aria-label": "one replica fewer" });
  const more = button("+", () => send("scale", { replicas: wanted + 1 }), { "aria-label": "one replica more" });
  const count = h("span.nbc-count", { title: "replicas" }, "1");
  const scale = h("span.nbc-scale", { role: "group", "aria-label": "replicas" }, fewer, count, more);
  return {
    elements: [scale, restart, back, stop],
    /** @param {?Service} service @param {string[]} dependents
     *  @returns {boolean} whether a button that cannot be used any more had the focus */
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

function stopWords(name, needed) {
  if (!needed.length) return `Stop ${name}? No service needs it.`;
  const many = `${needed.slice(0, 2).join(", ")} and ${needed.length - 2} more`;
  const who = needed.length > 3 ? many : needed.join(" and ");
  return `Stop ${name}? ${who} cannot answer without it.`;
}
