// The live graph in the browser: makes the picture that a cell shows live, and gives its services a panel with
// calls, traces and logs. The state is the kernel's; here is only what the user looks at and has typed.

/** @import { Model } from "./types.d.ts" */

import { h, parts } from "../../../../_replica/http/static/elements.js";
import { isClosed } from "./closed.js";
import { link } from "./link.js";
import { view } from "./view.js";

/**
 * Views of all elements with the id of the picture, those that come later included.
 *
 * @param {{model: Model, signal?: AbortSignal}} widget
 */
function initialize({ model, signal }) {
  if (!model.get("element")) return; // it is displayed itself
  const kernel = link(model);
  /** @type {Map<HTMLElement, ReturnType<typeof view>>} */
  const views = new Map();
  const selector = `[data-graph="${CSS.escape(model.get("element"))}"]`;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let planned;

  function look() {
    planned = undefined;
    if (isClosed(model)) {
      close();
      return;
    }
    // They may come back: notebooks take away what is out of sight.
    const left = [...views.keys()].filter((root) => !root.isConnected);
    for (const root of parts(document, selector)) {
      if (views.has(root)) continue;
      // An output that was drawn anew goes on with what its user has typed.
      const before = left.pop();
      const made = before && views.get(before);
      if (before) views.delete(before);
      made?.enter(root);
      views.set(root, made ?? view(root, kernel));
    }
    if (kernel.condition() === "gone" && left.length === views.size) close();
  }

  function close() {
    observer.disconnect();
    clearTimeout(planned);
    views.forEach((made) => made.close());
    views.clear();
    kernel.close();
  }

  // Many elements change while a notebook is drawn: once a frame is enough.
  const observer = new MutationObserver(() => {
    planned ||= setTimeout(look, 30);
  });
  observer.observe(document.body, { childList: true, subtree: true });
  look();
  signal?.addEventListener("abort", close);
  return close;
}

/** A view of its own, where a front end cannot find the picture. @param {{model: Model, el: HTMLElement}} widget */
function render({ model, el }) {
  const kernel = link(model);
  const made = view(el.appendChild(h("div.nbc-graph")), kernel);
  return () => {
    made.close();
    kernel.close();
  };
}

export default { initialize, render };
