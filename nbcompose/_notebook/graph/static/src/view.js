// A view: the picture and the panel, in an element that shows the picture.

/** @import { Condition, Choose, Heard, Kernel } from "./types.d.ts" */
/** @import { State } from "./messages.d.ts" */

import { h, parts } from "../../../../_replica/http/static/elements.js";
import { emptyPicture } from "./empty.js";
import { following } from "./following.js";
import { fullSize } from "./fullsize.js";
import { panel } from "./panel.js";
import { picture } from "./picture.js";
import { search } from "./search.js";
import { needing } from "./sentences.js";
import { roomOf, standsBeside } from "./viewport.js";
import { inner } from "./zoom.js";

/** @type {Record<Condition, string>} */
const CONDITIONS = {
  "": "",
  busy: "The kernel is busy with a cell: what you ask for comes when it has ended.",
  lost: "The connection is lost, and is made again: what you ask for waits.",
  gone: "The kernel that showed this was restarted or has ended: run the cell again for a live graph.",
};

const OWN_KEYS = "data-lm-suppress-shortcuts";
const SETTLES = 1500; // ms in which a panel that was opened gets what it shows, and is kept in sight

/** @param {HTMLElement} root @param {Kernel} kernel */
export function view(root, kernel) {
  const drawing = picture(choose, (service, on) => kernel.send({ type: "fold", service, on }));
  const condition = h("div.nbc-condition", { role: "status" });
  const side = h("div.nbc-side");
  const follower = following(side);
  const stage = h("div.nbc-stage", {}, drawing.element, side);
  const empty = emptyPicture(kernel.empty());
  const finding = search(mark, find);
  const app = h("div.nbc-app");
  const screen = fullSize(app, () => place.append(app));
  const tools = h(
    "div.nbc-tools",
    { role: "toolbar", "aria-label": "view of the picture" },
    ...drawing.tools,
    screen.button,
  );
  const bar = h("div.nbc-bar-above", {}, finding.element, h("span.nbc-space"), tools);
  app.append(bar, empty, stage, condition);
  let place = root;
  /** @type {Map<string, ReturnType<typeof panel>>} by service: what is typed and shown stays while another is chosen */
  const panels = new Map();
  /** @type {HTMLElement[]} what a saved notebook shows */
  let images = [];
  /** @type {ReturnType<typeof panel> | null} */
  let current = null;
  let seen = true;
  let wanted = ""; // what is looked for, and is folded away
  let opened = 0; // when the panel was
  /** @type {HTMLElement | SVGElement | null} what has the focus, and lost it only if its output was taken away */
  let held = null;

  /** @type {Choose} */
  function choose(name, { tab, trace, focus = false } = {}) {
    const other = panels.get(name) ?? panel(kernel, name, choose, leave);
    panels.set(name, other);
    const changed = other !== current;
    current = other;
    if (changed || tab) other.open(tab, trace);
    if (changed) {
      side.replaceChildren(other.element);
      follower.watch(other.element);
    }
    arrange();
    paint();
    if (focus) other.focus();
    opened = performance.now();
    reveal();
  }

  /** The panel stands beside the picture or below it, by the room there is. */
  function arrange() {
    // Of the whole view: the picture is the same one with a panel beside it.
    if (app.clientWidth) kernel.room?.(roomOf(inner(app.clientWidth)));
    app.classList.toggle("nbc-open", current !== null);
    app.classList.toggle("nbc-beside", standsBeside(app.clientWidth, drawing.size().width));
    drawing.keepFit();
  }

  /** Have the node and its panel in sight. */
  function reveal() {
    if (!current || performance.now() - opened > SETTLES) return;
    drawing.show(current.name);
    for (const part of [stage, side]) part.scrollIntoView({ block: "nearest", behavior: "instant" });
  }

  /** @param {Set<string> | null} names */
  function mark(names) {
    drawing.mark(names);
    paint();
  }

  /** Go to a service that was looked for, which may be folded away. @param {string} name */
  function find(name) {
    wanted = drawing.has(name) ? "" : name;
    if (wanted) unfold();
    else choose(name);
  }

  function unfold() {
    for (const service of drawing.folded()) kernel.send({ type: "fold", service, on: false });
  }

  function leave() {
    const name = current?.name;
    current = null;
    side.replaceChildren();
    follower.watch(null);
    arrange();
    paint();
    if (name) drawing.focus(name);
  }

  function paint() {
    const state = kernel.state();
    const name = current?.name ?? "";
    const nothing = !state.services.length;
    empty.hidden = !nothing;
    bar.hidden = nothing;
    stage.hidden = nothing && !current;
    drawing.paint(state, name);
    finding.update(state.services.map((s) => s.name));
    if (wanted && drawing.has(wanted)) find(wanted);
    if (current) {
      const needed = needing(state.services, name);
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
      const now = kernel.condition();
      condition.textContent = kernel.words?.[now] ?? CONDITIONS[now];
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
    place = element;
    images = parts(element, "img, .nbc-saved");
    images.forEach((image) => {
      image.style.display = "none";
    });
    element.classList.add("nbc-live");
    if (!screen.isOn()) element.append(app);
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
  const sized = new ResizeObserver(() => {
    arrange();
    reveal();
  });
  sized.observe(app);
  sized.observe(side);
  arrange();
  kernel.look(app, true);
  const last = kernel.last().service ?? "";
  if (kernel.state().services.some((s) => s.name === last)) {
    choose(last, { tab: "Call" });
    opened = 0; // the page stays where it is
  }
  return {
    enter,
    find,
    close() {
      deaf();
      clearInterval(ticking);
      window.removeEventListener("keydown", onKey, true);
      watching.disconnect();
      sized.disconnect();
      follower.watch(null);
      drawing.close();
      screen.close();
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
