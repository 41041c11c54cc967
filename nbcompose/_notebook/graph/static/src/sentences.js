// What is said of services and edges.

/** @import { Edge, Service } from "./messages.d.ts" */

import { bytes, compact, plural, time } from "../../../../_replica/http/static/words.js";

/** How many calls of a service failed, in words; "" where none did. @param {Service} service */
export const failedWords = ({ calls, errors }) =>
  errors ? `${compact(errors)} of ${compact(calls)} call${calls === 1 ? "" : "s"} failed` : "";

/** The numbers on the card of a service, what matters most first. @param {Service} service */
export function nodeParts(service) {
  const { rate, calls, errors, p50_ms, memory, memory_over } = service;
  const held = memory ? bytes(memory) + (memory_over ? " ⚠" : "") : "";
  const parts = [failedWords(service)];
  if (rate > 0) parts.push(`${rate}/s`);
  else if (calls && !errors) parts.push(plural(calls, "call"));
  if (memory_over) parts.push(held);
  if (p50_ms !== null) parts.push(`p50 ${time(p50_ms / 1000)}`);
  if (!memory_over) parts.push(held);
  return parts.filter(Boolean);
}

const LASTING = new Set(["ready", "failed", "stopped"]); // states whose words are one word

/**
 * What the card of a service says of its state, what matters most first: that calls failed only where no numbers of it
 * stand there, that some are under way last, since it moves meanwhile.
 *
 * @param {string} idle what the kernel says of it: its state and marks such as "stale"
 * @param {Pick<Service, "state" | "errors" | "in_flight">} service
 * @param {boolean} hasNumbers
 */
export function stateParts(idle, { state, errors, in_flight }, hasNumbers) {
  const failed = errors && !hasNumbers ? [`${compact(errors)} failed`] : [];
  const working = in_flight > 0 ? [`${in_flight} under way`] : [];
  if (!failed.length && !working.length) return [idle];
  const [first, ...marks] = LASTING.has(state) ? idle.split(", ") : [idle];
  return [first, ...failed, ...marks, ...working];
}

/** @param {Service} service */
const nodeWords = (service) => nodeParts(service).join(" · ");

/**
 * What a screen reader is told of a service; no word of it twice.
 * @param {Service} service
 * @param {string} folded - What is said of those below it that are not shown.
 */
export function nodeLabel(service, folded = "") {
  const { name, state, phase, coming } = service;
  const reason = service.reason === `it is ${state}` ? "" : service.reason;
  return [name, state, phase, coming, reason, nodeWords(service), folded].filter(Boolean).join(", ");
}

/** The numbers of a service where there is more room. @param {Service} service */
function moreWords(service) {
  const parts = [];
  if (service.rate > 0) parts.push(`${service.rate}/s`);
  if (service.calls) parts.push(plural(service.calls, "call"));
  if (service.errors) parts.push(`${service.errors.toLocaleString("en")} failed`);
  const lately = (service.numbers ?? []).filter((n) => n.p50 !== null).sort((a, b) => b.answered - a.answered);
  const [most] = lately;
  const of = (service.numbers ?? []).length > 1 ? `${most?.api}: ` : "";
  if (most) parts.push(`${of}p50 ${time(most.p50 ?? 0)}, p95 ${time(most.p95 ?? 0)} in 5 min`);
  const memory = memoryText(service);
  if (memory) parts.push(memory);
  return parts;
}

/** @param {Service} service */
function memoryText({ memory, memory_limit, memory_over, gpu_memory }) {
  const parts = [];
  if (memory) parts.push(bytes(memory) + (memory_limit ? ` of ${bytes(memory_limit)}` : ""));
  if (memory_over) parts.push("over its limit");
  if (gpu_memory) parts.push(`GPU ${bytes(gpu_memory)}`);
  return parts.join(", ");
}

/** @param {Edge} edge */
export function edgeWords(edge) {
  const calls = `${plural(edge.calls, "call")}, ${edge.in_flight} under way`;
  const way = edge.passed
    ? `${edge.from} reads streams of ${edge.to}, which were passed to it`
    : `${edge.from} → ${edge.to}`;
  return `${way}: ${calls}, ${bytes(edge.sent)} sent, ${bytes(edge.received)} received`;
}

/** @param {Service | null} service */
export function factWords(service) {
  if (!service) return "";
  return [service.device, `${service.up}/${service.wanted} up`, ...moreWords(service)].filter(Boolean).join(" · ");
}

/** @param {Service | null} service */
export function noteLines(service) {
  if (!service) return [];
  const lines = [...service.notes];
  if (service.stale.length) lines.unshift(`stale: ${service.stale.join(", ")} changed in the notebook since`);
  if (service.behind) lines.unshift(`this is the previous version: ${service.behind}`);
  return lines;
}

/**
 * The services that need another one, also by others that do.
 *
 * @param {{name: string, dependencies: string[]}[]} services
 * @param {string} name
 */
export function needing(services, name) {
  const found = new Set([name]);
  for (const needed of found) for (const s of services) if (s.dependencies.includes(needed)) found.add(s.name);
  found.delete(name);
  return [...found];
}

/** What is asked before a service is stopped. @param {string} name @param {string[]} needed those that need it */
export function stopWords(name, needed) {
  if (!needed.length) return `Stop ${name}? No service needs it.`;
  const many = `${needed.slice(0, 2).join(", ")} and ${needed.length - 2} more`;
  const who = needed.length > 3 ? many : needed.join(" and ");
  return `Stop ${name}? ${who} cannot answer without it.`;
}
