// Shows cards as live, as long as there is a kernel that says what they say. A saved card names CSS variables which are
// set nowhere else: variables reach elements in a shadow root too, and outputs that are drawn later.

/** @import { CardsModel } from "./types.d.ts" */

import { isClosed } from "./closed.js";

const LATER = 500; // ms until a page that is being opened has its tabs

/**
 * The selector of the kernel's own notebook, "" while it is not there. JupyterLab shows several notebooks in one page,
 * and only their tabs say which; other pages show one.
 *
 * @param {CardsModel} model
 * @param {Pick<Document, "querySelector" | "querySelectorAll">} page
 */
export function place(model, page) {
  const path = model.widget_manager?.context?.path;
  const panels = [...page.querySelectorAll(".jp-NotebookPanel[id]")].flatMap(({ id }) => {
    const tab = page.querySelector(`[data-id="${id}"]`);
    return tab ? [{ id, lines: tab.getAttribute("title")?.split("\n") ?? [] }] : [];
  });
  if (!path || !panels.length) return ":root";
  const own = panels.filter(({ lines }) => lines.some((line) => line.endsWith(`: ${path}`)));
  return own.map(({ id }) => `[id="${id}"]`).join(", ");
}

/** @param {Record<string, string>} live colors by name of the variable @param {string} where */
export function rule(live, where) {
  const set = Object.entries(live).map(([name, color]) => `${name}:${color};${name}-saved:none`);
  return where && set.length ? `${where}{${set.join(";")}}` : "";
}

/** @param {{model: CardsModel, signal?: AbortSignal}} widget */
function initialize({ model, signal }) {
  const sheet = document.head.appendChild(document.createElement("style"));
  const paint = () => {
    if (isClosed(model)) {
      close();
      return;
    }
    const text = rule(model.get("live"), place(model, document));
    if (sheet.textContent !== text) sheet.textContent = text;
  };
  /** Of a kernel that has ended or was restarted nothing is live. */
  const close = () => {
    sheet.remove();
    clearTimeout(later);
    document.removeEventListener("focusin", paint);
  };
  const later = setTimeout(paint, LATER);
  document.addEventListener("focusin", paint); // in a view that was opened, or a notebook that was renamed, meanwhile
  model.on("change:live", paint);
  model.on("comm_live_update", close);
  signal?.addEventListener("abort", close);
  paint();
  return close;
}

export default { initialize };
