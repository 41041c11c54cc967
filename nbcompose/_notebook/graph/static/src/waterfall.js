// One trace as a waterfall.

import { h, time } from "./elements.js";

/** What went wrong, and the class of how it looks; a call that its caller gave up did not go wrong. */
export function ending(error) {
  if (error === "CallCancelled") return { words: "cancelled", look: ".nbc-given-up" };
  return { words: error, look: error ? ".nbc-bad" : "" };
}

/** Services as rows, calls as bars; what was spent in a queue is lighter. */
export function waterfall(bars, choose) {
  const total = Math.max(...bars.map((b) => b.start + b.seconds), 1e-6);
  const services = [...new Set(bars.map((b) => b.service))];
  const lines = services.map((name) => waterfallRow(name, bars.filter((b) => b.service === name), total, choose));
  const mark = (part) => h("span", { style: `left:${part * 100}%` }, part ? time(total * part) : "0");
  const axis = h("div.nbc-line", {}, h("span.nbc-who"), h("div.nbc-axis", {}, ...[0, 0.25, 0.5, 0.75, 1].map(mark)));
  return h("div.nbc-chart", { role: "group", "aria-label": "where the time went" }, ...lines, axis);
}

function waterfallRow(service, bars, total, choose) {
  const ends = [];
  const drawn = bars.map((bar) => {
    let lane = ends.findIndex((end) => end <= bar.start);
    if (lane < 0) lane = ends.length;
    ends[lane] = bar.start + bar.seconds;
    return waterfallBar(bar, lane, total, choose);
  });
  const track = h("div.nbc-track", { style: `height:${Math.max(ends.length, 1) * 20}px` }, ...drawn);
  return h("div.nbc-line", {}, h("span.nbc-who", { title: service }, service), track);
}

function waterfallBar(bar, lane, total, choose) {
  const { service } = bar;
  const { words, look } = ending(bar.error);
  const part = (seconds) => `${(100 * seconds) / total}%`;
  const inside = (seconds) => `${bar.seconds ? (100 * seconds) / bar.seconds : 0}%`;
  const title = [
    `${service}.${bar.api}: ${time(bar.seconds)}`, bar.queued > 0 ? `${time(bar.queued)} of it in the queue` : "",
    bar.first_item != null ? `first item after ${time(bar.first_item)}` : "",
    bar.last_item != null ? `last item after ${time(bar.last_item)}` : "", words,
  ].filter(Boolean).join(", ");
  const mark = (at) => h("span.nbc-mark", { style: `left:${inside(at)}` });
  const marks = [bar.first_item, bar.last_item].filter((at) => at != null).map(mark);
  const queue = bar.queued > 0 ? h("span.nbc-queued", { style: `width:${inside(bar.queued)}` }) : null;
  // It stands where it can be read: after the queue, or in it where that is most of the bar.
  const waited = bar.queued > bar.seconds / 2;
  const beside = { style: waited ? null : `margin-left:${inside(bar.queued)}` };
  const name = h(`span.nbc-bar-name${waited ? ".nbc-waited" : ""}`, beside, words ? `${bar.api}: ${words}` : bar.api);
  return h(`button.nbc-bar${look}`, {
    type: "button", title, "aria-label": title, onclick: () => choose(service),
    style: `left:${part(bar.start)};width:max(3px,${part(bar.seconds)});top:${lane * 20 + 2}px`,
  }, queue, ...marks, name);
}
