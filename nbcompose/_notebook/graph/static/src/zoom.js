// Zoom and pan of the picture: by buttons, keys, the wheel with Ctrl, two fingers, and by dragging what is behind it.
// Its place scrolls, so that scroll bars, the wheel alone, one finger and the focus move it as they move any page.

/** @import { Extent, Glance, Held, Spot } from "./types.d.ts" */

import { button } from "../../../../_replica/http/static/elements.js";
import { bounded, fitting, pinch, STEP, scrolledTo, wheelFactor, zoomed } from "./viewport.js";

const EDGE = 4; // pixels that the place has around the picture
const BAR = 16; // for a scroll bar
const SHOWN = 12; // around what is brought into sight
const DRAGGED = 4; // pixels from which on a press is no click

/** The width that a place leaves for a picture. @param {number} width of the place */
export const inner = (width) => width - 2 * EDGE - BAR;

/** @param {HTMLElement} place that scrolls */
export function zoomable(place) {
  /** @type {SVGElement | null} */
  let drawing = null;
  /** @type {Extent} */
  let size = { width: 1, height: 1 };
  let scale = 1;
  /** @type {"width" | "whole" | ""} what the picture is kept fitted to */
  let fit = "width";
  const percent = button("100 %", () => zoomBy(1 / scale), { title: "as large as it was drawn" });
  const fits = { "aria-label": "fit to the width, again: the whole", title: "fit to the width, again: the whole (0)" };
  const tools = [
    button("−", () => zoomBy(1 / STEP), { "aria-label": "zoom out", title: "zoom out (−)" }),
    percent,
    button("+", () => zoomBy(STEP), { "aria-label": "zoom in", title: "zoom in (+)" }),
    button("fit", refit, fits),
  ];

  /** @returns {Extent} */
  function room() {
    const most = Number.parseFloat(getComputedStyle(place).maxHeight);
    const height = Number.isFinite(most) ? most : place.clientHeight;
    return { width: inner(place.offsetWidth), height: height - 2 * EDGE };
  }

  /** @param {number} now */
  function resize(now) {
    scale = now;
    place.style.setProperty("--nbc-fills", `${size.width * Math.max(1, scale) + 2 * EDGE + BAR}px`);
    percent.textContent = `${Math.round(scale * 100)} %`;
    if (drawing) {
      drawing.style.width = `${size.width * scale}px`;
      drawing.style.height = `${size.height * scale}px`;
    }
  }

  function keepFit() {
    if (fit && place.offsetWidth) resize(fitting(size, room(), fit === "whole"));
  }

  function refit() {
    const isWide = fit === "width" || (!fit && scale === fitting(size, room(), false));
    fit = isWide ? "whole" : "width";
    keepFit();
  }

  /** @param {number} factor @param {Spot} [at] the middle where none is given */
  function zoomBy(factor, at = { x: place.clientWidth / 2, y: place.clientHeight / 2 }) {
    fit = "";
    look(zoomed({ scale, left: place.scrollLeft, top: place.scrollTop }, scale * factor, at));
  }

  /** @param {Glance} seen */
  function look(seen) {
    resize(seen.scale);
    place.scrollTo({ left: seen.left, top: seen.top, behavior: "instant" });
  }

  /** @param {{clientX: number, clientY: number}} event @returns {Spot} */
  function spot(event) {
    const box = place.getBoundingClientRect();
    return { x: event.clientX - box.x - EDGE, y: event.clientY - box.y - EDGE };
  }

  /** @type {Record<string, number>} */
  const KEYS = { "+": STEP, "=": STEP, "-": 1 / STEP, "−": 1 / STEP };

  place.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const factor = KEYS[event.key];
    if (factor) zoomBy(factor);
    else if (event.key === "0") refit();
    else return;
    event.preventDefault();
  });
  place.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault(); // the browser would zoom the page
      zoomBy(wheelFactor(event), spot(event));
    },
    { passive: false },
  );
  /** @type {{apart: number, scale: number} | null} */
  let pinched = null;
  place.addEventListener(
    "touchmove",
    (event) => {
      if (event.touches.length !== 2) return;
      event.preventDefault();
      const { at, apart } = pinch(spot(event.touches[0]), spot(event.touches[1]));
      pinched ??= { apart, scale };
      zoomBy(bounded((pinched.scale * apart) / pinched.apart) / scale, at);
    },
    { passive: false },
  );
  for (const end of ["touchend", "touchcancel"]) {
    place.addEventListener(end, () => {
      pinched = null;
    });
  }
  drag(place);
  const sized = new ResizeObserver(keepFit);
  sized.observe(place, { box: "border-box" });

  return {
    tools,
    size: () => size,
    keepFit,
    /** Another picture stands there now. @param {SVGElement} svg */
    hold(svg) {
      drawing = svg;
      size = { width: Number(svg.getAttribute("width")), height: Number(svg.getAttribute("height")) };
      svg.style.maxWidth = "none";
      resize(scale);
      keepFit();
    },
    /** Where a part stands that is seen, or nothing where all is as at first. @param {Element[]} all @returns {Held | null} */
    held(all) {
      if (!place.scrollTop && !place.scrollLeft) return null;
      const outer = place.getBoundingClientRect();
      for (const { id, box } of all.map((part) => ({ id: part.id, box: part.getBoundingClientRect() }))) {
        if (box.right > outer.left && box.left < outer.right && box.bottom > outer.top && box.top < outer.bottom)
          return { id, x: box.x, y: box.y };
      }
      return null;
    },
    /** Have a part stand where it stood in another picture. @param {Element} part @param {Held} held */
    keep(part, { x, y }) {
      const box = part.getBoundingClientRect();
      place.scrollBy({ left: box.x - x, top: box.y - y, behavior: "instant" });
    },
    /** Bring a part of the picture into sight. @param {Element} part */
    show(part) {
      const box = part.getBoundingClientRect();
      const outer = place.getBoundingClientRect();
      const [left, top] = [box.x - outer.x + place.scrollLeft, box.y - outer.y + place.scrollTop];
      place.scrollTo({
        left: scrolledTo(place.scrollLeft, place.clientWidth, left - SHOWN, left + box.width + SHOWN),
        top: scrolledTo(place.scrollTop, place.clientHeight, top - SHOWN, top + box.height + SHOWN),
        behavior: "instant",
      });
    },
    close: () => sized.disconnect(),
  };
}

/** Scroll by dragging with the mouse what is behind the services. @param {HTMLElement} place */
function drag(place) {
  /** @type {{x: number, y: number, left: number, top: number} | null} */
  let from = null;
  place.addEventListener("pointerdown", (event) => {
    const isBehind = event.target instanceof Element && !event.target.closest("[data-service], [data-fold]");
    if (event.pointerType !== "mouse" || event.button || !isBehind || event.target === place) return;
    from = { x: event.clientX, y: event.clientY, left: place.scrollLeft, top: place.scrollTop };
  });
  place.addEventListener("pointermove", (event) => {
    if (!from) return;
    const [x, y] = [event.clientX - from.x, event.clientY - from.y];
    if (!place.hasPointerCapture(event.pointerId)) {
      if (Math.hypot(x, y) < DRAGGED) return;
      place.setPointerCapture(event.pointerId);
      place.classList.add("nbc-dragged");
    }
    place.scrollTo({ left: from.left - x, top: from.top - y, behavior: "instant" });
  });
  for (const end of ["pointerup", "pointercancel"]) {
    place.addEventListener(end, () => {
      from = null;
      place.classList.remove("nbc-dragged");
    });
  }
}
