// One trace as a waterfall.

/** @import { SpanRow } from "./messages.d.ts" */

import { h } from "../../../../_replica/http/static/elements.js";
import { time } from "../../../../_replica/http/static/words.js";
import { callWords, ending, timeline } from "./timeline.js";

const LANE = 20; // pixels

/**
 * Services as rows, calls as bars; what was spent in a queue is lighter. `choose` is called with the span of a call.
 *
 * @param {SpanRow[]} calls
 * @param {string} chosen the span of the call that is shown
 * @param {(span: string) => void} choose
 */
export function waterfall(calls, chosen, choose) {
  const { total, rows } = timeline(calls);
  const lines = rows.map(({ service, placed, lanes }) => {
    const bars = placed.map(({ call, lane }) => waterfallBar(call, lane, total, call.span === chosen, choose));
    const track = h("div.nbc-track", { style: `height:${lanes * LANE}px` }, ...bars);
    return h("div.nbc-line", {}, h("span.nbc-who", { title: service }, service), track);
  });
  /** @param {number} part */
  const mark = (part) => h("span", { style: `left:${part * 100}%` }, part ? time(total * part) : "0");
  const axis = h("div.nbc-line", {}, h("span.nbc-who"), h("div.nbc-axis", {}, ...[0, 0.25, 0.5, 0.75, 1].map(mark)));
  return h("div.nbc-chart", { role: "group", "aria-label": "where the time went" }, ...lines, axis);
}

/**
 * @param {SpanRow} call
 * @param {number} lane
 * @param {number} total
 * @param {boolean} chosen
 * @param {(span: string) => void} choose
 */
function waterfallBar(call, lane, total, chosen, choose) {
  const { span, api, start, seconds, queued } = call;
  const { words, look } = ending(call.error);
  /** @param {number} length */
  const share = (length) => `${(100 * length) / total}%`;
  /** @param {number} length */
  const inside = (length) => `${seconds ? (100 * length) / seconds : 0}%`;
  const title = callWords(call);
  const items = [call.first_item, call.last_item].filter((at) => at !== null);
  const marks = items.map((at) => h("span.nbc-mark", { style: `left:${inside(at)}` }));
  const queue = queued > 0 ? h("span.nbc-queued", { style: `width:${inside(queued)}` }) : null;
  // It stands where it can be read: after the queue, or in it where that is most of the bar.
  const waited = queued > seconds / 2;
  const beside = { style: waited ? null : `margin-left:${inside(queued)}` };
  const name = h(`span.nbc-bar-name${waited ? ".nbc-waited" : ""}`, beside, words ? `${api}: ${words}` : api);
  const style = `left:${share(start)};width:max(3px,${share(seconds)});top:${lane * LANE + 2}px`;
  const pressed = { "data-span": span, "aria-pressed": String(chosen) };
  const attributes = { type: "button", title, "aria-label": title, ...pressed, onclick: () => choose(span), style };
  return h(`button.nbc-bar${look}`, attributes, queue, ...marks, name);
}
