// A view: the picture and the panel, in an element that shows the picture.

/** @import { Condition, Choose, Heard, Kernel } from "./types.d.ts" */
/** @import { State } from "./messages.d.ts" */

import { h, parts } from "../../../../_replica/http/static/elements.js";
import { panel } from "./panel.js";
import { picture } from "./picture.js";

/** @type {Record<Condition, string>} */
const CONDITIONS = {
  "": "",
  busy: "The kernel is busy with a cell: what you ask for comes when it has ended.",
  gone: "The kernel that showed this was restarted or has ended: run the cell again for a live graph.",
};

const OWN_KEYS = "data-lm-suppress-shortcuts";

/** @param {HTMLElement} root @param {Kernel} kernel */
export function view(root, kernel) {
  const drawing = picture(choose);
  const condition = h("div.nbc-condition", { role: "status" });
  const side = h("div.nbc-side");
  const app = h("div.nbc-app", {}, drawing.element, condition, side);
  /** @type {Map<string, ReturnType<typeof panel>>} by service: what is typed and shown stays while another is chosen */
  const panels = new Map();
  /** @type {HTMLElement[]} what a saved notebook shows */
  let images = [];
  /** @type {ReturnType<typeof panel> | null} */
  let current = null;
  let seen = true;
  /** @type {HTMLElement | SVGElement | null} what has the focus, and lost it only if its output was taken away */
  let held = null;

  /** @type {Choose} */
  function choose(name, { tab, trace, focus = false } = {}) {
    const other = panels.get(name) ?? panel(kernel, name, choose, leave);
    panels.set(name, other);
    const changed = other !== current;
    current = other;
    if (changed || tab) other.open(tab, trace);
    if (changed) side.replaceChildren(other.element);
    paint();
    if (focus) other.focus();
  }

  function leave() {
    const name = current?.name;
    current = null;
    side.replaceChildren();
    paint();
    if (name) drawing.focus(name);
  }

  function paint() {
    const state = kernel.state();
    const name = current?.name ?? "";
    drawing.paint(state, name);
    if (current) {
      const needed = state.services.filter((s) => s.dependencies.includes(name)).map((s) => s.name);
      const alive = kernel.condition() !== "gone";
      current.update((alive && state.services.find((s) => s.name === name)) || null, needed);
    }
    forget(state);
  }

  /** Panels of services that are gone. @param {State} state */
  function forget(state) {
    for (const [name, made] of panels) {
      if (made === current || state.services.some((s) => s.name === name)) continue;
      made.close();
      panels.delete(name);
    }
  }

  /** @param {Heard} message */
  function hear(message) {
    if (message.type === "state") {
      if (seen) paint();
      return;
    }
    if (message.type === "link") {
      condition.textContent = CONDITIONS[kernel.condition()];
      app.classList.toggle("nbc-gone", kernel.condition() === "gone");
      paint();
    }
    panels.forEach((made) => made.hear(message));
  }

  // JupyterLab takes plain keys for commands ("d d" deletes a cell); Ctrl-S and the like stay its own. It asks the element
  // with the focus first: a command for `:focus` would not get as far as an element around it.
  /** @param {KeyboardEvent} event */
  const onKey = (event) => {
    const own = event.key === "Enter" || !(event.ctrlKey || event.metaKey);
    if (event.target instanceof Element && app.contains(event.target)) event.target.toggleAttribute(OWN_KEYS, own);
  };
  window.addEventListener("keydown", onKey, true);

  const deaf = kernel.listen(hear);
  const ticking = setInterval(() => seen && !document.hidden && current?.tick(), 1000);
  const watching = new IntersectionObserver((entries) => {
    seen = Boolean(entries.at(-1)?.isIntersecting);
    kernel.look(app, seen);
    if (seen) paint();
  });

  /** Stand in an element, in the place of its picture. @param {HTMLElement} element */
  function enter(element) {
    images = parts(element, "img, .nbc-saved");
    images.forEach((image) => {
      image.style.display = "none";
    });
    element.classList.add("nbc-live");
    element.append(app);
    if (!held || document.activeElement !== document.body) return;
    held.focus();
    if (document.activeElement === document.body) current?.focus(); // it cannot be used any more
  }

  enter(root);
  app.addEventListener("focusin", (event) => {
    held = event.target instanceof HTMLElement || event.target instanceof SVGElement ? event.target : null;
  });
  app.addEventListener("focusout", () => {
    // Not at once: while an output is taken away it seems to be there.
    setTimeout(() => {
      if (app.isConnected && !app.contains(document.activeElement)) held = null;
    });
  });
  app.addEventListener("keydown", (event) => {
    if (event.target instanceof Element && event.target.hasAttribute(OWN_KEYS)) event.stopPropagation();
  });
  paint();
  watching.observe(app);
  kernel.look(app, true);
  return {
    enter,
    close() {
      deaf();
      clearInterval(ticking);
      window.removeEventListener("keydown", onKey, true);
      watching.disconnect();
      kernel.look(app, false);
      panels.forEach((made) => made.close());
      panels.clear();
      app.remove();
      images.forEach((image) => {
        image.style.display = "";
      });
    },
  };
}
