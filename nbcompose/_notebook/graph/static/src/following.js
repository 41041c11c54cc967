// The place of the panel, which scrolls: its head and its tabs stay in sight, and so does the result of a call while it
// grows.

import { parts } from "../../../../_replica/http/static/elements.js";

const NEAR = 8; // pixels from its end that are none

/**
 * What follows the panel that stands in its place: `watch` it.
 *
 * @param {HTMLElement} place
 */
export function following(place) {
  let isAtEnd = true;
  let height = 0;
  /** @type {HTMLElement | undefined} */
  let known; // a result, whose growth is seen to
  // By the height that was followed: what has grown since is seen to next.
  const note = () => {
    isAtEnd = place.scrollTop + place.clientHeight >= height - NEAR;
  };

  function follow() {
    const [head, tabs] = [".nbc-head", ".nbc-tabs"].map((part) => parts(place, part)[0]?.offsetHeight ?? 0);
    const fixed = head + tabs;
    place.style.setProperty("--nbc-head", `${head}px`);
    place.style.setProperty("--nbc-fixed", `${fixed}px`);
    place.style.setProperty("--nbc-room", `${place.clientHeight - fixed}px`);
    const [result] = parts(place, ".nbc-outcome:not([hidden])");
    const more = place.scrollHeight - height;
    if (result && result === known && isAtEnd && more > 0) {
      // Not farther than to its beginning: who wants its end has a scroll bar.
      const above = result.getBoundingClientRect().top - place.getBoundingClientRect().top - fixed;
      place.scrollTop += Math.max(0, Math.min(more, above));
    }
    look(result);
  }

  /** @param {HTMLElement | undefined} result */
  function look(result) {
    [known, height] = [result, place.scrollHeight];
    note();
  }

  // At once, before anything of a result comes: a call has emptied the one before, and was brought into sight.
  const begun = new MutationObserver((records) => {
    for (const { target } of records)
      if (target instanceof HTMLElement && target.matches(".nbc-outcome.nbc-running")) look(target);
  });
  place.addEventListener("scroll", note);
  const sized = new ResizeObserver(follow);
  return {
    /** @param {HTMLElement | null} panel */
    watch(panel) {
      sized.disconnect();
      begun.disconnect();
      if (!panel) return;
      begun.observe(panel, { attributeFilter: ["class"], subtree: true });
      sized.observe(place);
      sized.observe(panel);
    },
  };
}
