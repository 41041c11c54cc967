// Where the outcome of a call comes: its items, result or error, with its clock.

import { h, plural, time } from "./elements.js";
import { shown } from "./result.js";

/** `of`: what is called, for those who hear the page. */
export function outcome(of) {
  const clock = h("span.nbc-clock");
  const status = h("span.nbc-status");
  const said = h("span.nbc-unseen", { role: "status" }); // the beginning and the end, not each item
  const body = h("div.nbc-result", { tabindex: "-1" });
  const progress = h("div.nbc-progress", {}, h("span.nbc-spinner", { "aria-hidden": "true" }), status, clock);
  const element = h("div.nbc-outcome", { hidden: true }, progress, said, body);
  let started = 0;
  let timer = 0;
  let count = 0;
  let known = false; // to the kernel
  const tick = () => { clock.textContent = time((performance.now() - started) / 1000); };

  function item(bundle) {
    const follows = body.scrollTop + body.clientHeight >= body.scrollHeight - 8;
    count += 1;
    const inline = Object.keys(bundle).every((kind) => kind === "text/plain");
    const last = body.lastElementChild;
    if (inline && last?.classList.contains("nbc-flow")) last.append(h("span", {}, bundle["text/plain"]));
    else if (inline) body.append(h("pre.nbc-text.nbc-flow", {}, h("span", {}, bundle["text/plain"])));
    else body.append(h("div.nbc-item", {}, shown(bundle)));
    status.textContent = plural(count, "item");
    if (follows) body.scrollTop = body.scrollHeight;
  }

  function run(words) {
    clearInterval(timer);
    started = performance.now();
    status.textContent = words;
    timer = setInterval(tick, 100);
    tick();
  }

  return {
    element,
    begin() {
      body.replaceChildren();
      [count, known] = [0, false];
      element.hidden = false;
      element.className = "nbc-outcome nbc-running";
      said.textContent = `calling ${of}`;
      run("calling");
    },
    /** The kernel has the call, at last. */
    begun() {
      known = true;
      if (timer === 0) run("calling");
    },
    /** The kernel does not answer: no clock runs for what has not begun. */
    wait() {
      if (known) return;
      clearInterval(timer);
      timer = 0;
      clock.textContent = "";
      status.textContent = "the kernel is busy: the call starts when the cell has ended";
      said.textContent = status.textContent;
    },
    item,
    end(kind, words, seconds, ...content) {
      clearInterval(timer);
      timer = 0;
      clock.textContent = seconds === undefined ? "" : time(seconds);
      element.className = `nbc-outcome nbc-${kind}`;
      status.textContent = words || (count ? plural(count, "item") : "no items");
      body.append(...content);
      said.textContent = `${of}: ${words || `done, ${status.textContent} in`} ${clock.textContent}`;
    },
  };
}
