// A question that is asked before something that hurts is done.

/** @import { Ask } from "./types.d.ts" */

import { button, h } from "../../../../_replica/http/static/elements.js";

export function question() {
  const element = h("div.nbc-asking", { role: "alertdialog", "aria-label": "sure?", hidden: true });
  /** @type {Element | null} */
  let back = null;

  /** Without having done it; returns whether a question was open. */
  function answer() {
    if (element.hidden) return false;
    element.hidden = true;
    if (back instanceof HTMLElement || back instanceof SVGElement) back.focus();
    return true;
  }

  return {
    element,
    answer,
    /** @type {Ask} */
    ask(words, yes, then) {
      if (element.hidden) back = document.activeElement;
      const sure = button(
        yes,
        () => {
          answer();
          then();
        },
        { class: "nbc-button nbc-danger" },
      );
      element.setAttribute("aria-label", words);
      element.replaceChildren(h("span", {}, words), sure, button("No", answer));
      element.hidden = false;
      sure.focus();
    },
  };
}
