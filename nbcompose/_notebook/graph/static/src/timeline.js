// Where the calls of one trace stand in its waterfall.

/** @import { SpanRow } from "./messages.d.ts" */

import { time } from "../../../../_replica/http/static/words.js";

/**
 * What went wrong, and the class of how it looks; a call that its caller gave up did not go wrong.
 *
 * @param {string} error
 */
export function ending(error) {
  if (error === "CallCancelled") return { words: "cancelled", look: ".nbc-given-up" };
  return { words: error, look: error ? ".nbc-bad" : "" };
}

/**
 * Services in the order of their first calls, each with as many lanes as it had calls at once. `total`: the seconds
 * that the whole of it took.
 *
 * @param {SpanRow[]} calls
 */
export function timeline(calls) {
  const total = Math.max(...calls.map((c) => c.start + c.seconds), 1e-6);
  const services = [...new Set(calls.map((c) => c.service))];
  const rows = services.map((service) => ({ service, ...lanes(calls.filter((c) => c.service === service)) }));
  return { total, rows };
}

/**
 * The call of a trace whose arguments and answer are shown: the one that was picked; else the first, which comes last
 * where its own calls have ended before it.
 *
 * @param {SpanRow[]} calls
 * @param {string} picked
 */
export const shownSpan = (calls, picked) => (calls.find((c) => c.span === picked) ?? calls[0])?.span ?? "";

/** @param {SpanRow[]} calls */
function lanes(calls) {
  /** @type {number[]} when the last call of a lane ended */
  const ends = [];
  const placed = calls.map((call) => {
    let lane = ends.findIndex((end) => end <= call.start);
    if (lane < 0) lane = ends.length;
    ends[lane] = call.start + call.seconds;
    return { call, lane };
  });
  return { placed, lanes: ends.length };
}

/** @param {SpanRow} call */
export function callWords(call) {
  const { service, api, seconds, queued, input_wait = 0, first_item, last_item, error } = call;
  const parts = [
    `${service}.${api}: ${time(seconds)}`,
    queued > 0 ? `${time(queued)} of it in the queue` : "",
    input_wait > 0 ? `${time(input_wait)} of it waiting for its input` : "",
    first_item !== null ? `first item after ${time(first_item)}` : "",
    last_item !== null ? `last item after ${time(last_item)}` : "",
    ending(error).words,
  ];
  return parts.filter(Boolean).join(", ");
}
