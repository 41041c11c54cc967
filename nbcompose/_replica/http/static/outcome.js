// Where the outcome of a call comes: its items, result or error, with its clock.

/** @import { Bundle } from "./types.d.ts" */

import { h } from "./elements.js";
import { shown } from "./result.js";
import { plural, time } from "./words.js";

const ROOM = 10000; // for items of a stream; a page with more of them is slow. Texts of 100 characters take two.

/**
 * `of`: what is called, for those who hear the page. `show`: how a bundle is shown.
 *
 * @template {Bundle} B
 * @param {string} of
 * @param {(bundle: B) => HTMLElement} show
 */
export function outcome(of, show = shown) {
  const clock = h("span.nbc-clock");
  const status = h("span.nbc-status");
  const said = h("span.nbc-unseen", { role: "status" }); // the beginning and the end, not each item
  const body = h("div.nbc-result", { tabindex: "-1" });
  const progress = h("div.nbc-progress", {}, h("span.nbc-spinner", { "aria-hidden": "true" }), status, clock);
  const element = h("div.nbc-outcome", { hidden: true }, progress, said, body);
  const full = h("div.nbc-dim", {}, "… the items after this are counted and not shown");
  let started = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  let count = 0;
  let room = ROOM;
  let known = false; // to the kernel
  const tick = () => {
    clock.textContent = time((performance.now() - started) / 1000);
  };

  /**
   * All that came at once: looking where the page stands is what costs, and it is done once for them.
   *
   * @param {B[]} bundles
   */
  function items(bundles) {
    follow(() => bundles.forEach(item));
    status.textContent = plural(count, "item");
  }

  /** Do what adds to the body, and stay at its end. @param {() => void} add */
  function follow(add) {
    const follows = body.scrollTop + body.clientHeight >= body.scrollHeight - 8;
    add();
    if (follows) body.scrollTop = body.scrollHeight;
  }

  /** @param {B} bundle */
  function item(bundle) {
    count += 1;
    const inline = Object.keys(bundle).every((kind) => kind === "text/plain");
    const words = (inline && bundle["text/plain"]) || "";
    if (inline) flow(words);
    else if (hasRoom(1)) body.append(h("div.nbc-item", {}, show(bundle)));
  }

  /** Whether there is room for more, which this then takes. @param {number} part */
  function hasRoom(part) {
    room -= part;
    if (room < 0) body.append(full);
    return room >= 0;
  }

  /** @param {string} words */
  function flow(words) {
    if (!hasRoom(1 + words.length / 100)) return;
    const last = body.lastElementChild;
    if (last?.classList.contains("nbc-flow")) /** @type {Text} */ (last.firstChild).appendData(words);
    else body.append(h("pre.nbc-text.nbc-flow", {}, document.createTextNode(words)));
  }

  /** @param {string} words @param {number} [since] seconds */
  function run(words, since = 0) {
    clearInterval(timer);
    started = performance.now() - since * 1000;
    status.textContent = words;
    timer = setInterval(tick, 100);
    tick();
  }

  return {
    element,
    /** @param {number} [since] seconds, of a call that is under way already */
    begin(since = 0) {
      body.replaceChildren();
      [count, room, known] = [0, ROOM, false];
      element.hidden = false;
      element.className = "nbc-outcome nbc-running";
      said.textContent = `calling ${of}`;
      run("calling", since);
      element.scrollIntoView?.({ block: "nearest" }); // with room for an answer: see `scroll-margin`
    },
    /** No call was made: what an earlier one gave is no answer to what is typed now. */
    hide() {
      element.hidden = true;
    },
    /** Items came that are kept no more. @param {number} more */
    missed(more) {
      if (more <= 0) return;
      count += more;
      room = -1;
      body.append(full);
      status.textContent = plural(count, "item");
    },
    /** The kernel has the call, at last. */
    begun() {
      known = true;
      if (timer === undefined) run("calling");
    },
    /** The kernel does not answer: no clock runs for what has not begun. */
    wait() {
      if (known) return;
      clearInterval(timer);
      timer = undefined;
      clock.textContent = "";
      status.textContent = "the kernel is busy: the call starts when the cell has ended";
      said.textContent = status.textContent;
    },
    items,
    /** A part of a text, which is no item. @param {string} words */
    text: (words) => follow(() => flow(words)),
    /**
     * @param {"done" | "cancelled" | "failed"} kind
     * @param {string} words
     * @param {number} [seconds]
     * @param {Node[]} content
     */
    end(kind, words, seconds, ...content) {
      clearInterval(timer);
      timer = undefined;
      clock.textContent = seconds === undefined ? "" : time(seconds);
      element.className = `nbc-outcome nbc-${kind}`;
      status.textContent = words || (count ? plural(count, "item") : "no items");
      body.append(...content);
      said.textContent = `${of}: ${words || `done, ${status.textContent} in`} ${clock.textContent}`;
    },
  };
}
