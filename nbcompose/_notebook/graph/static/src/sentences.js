// What is said of services and edges.

/** @import { Edge, Service } from "./messages.d.ts" */

import { bytes, plural, time } from "../../../../_replica/http/static/words.js";

/** @param {Service} service */
export function nodeWords(service) {
  const parts = [];
  if (service.rate > 0) parts.push(`${service.rate}/s`);
  else if (service.calls) parts.push(plural(service.calls, "call"));
  if (service.p50_ms !== null) parts.push(`p50 ${time(service.p50_ms / 1000)}`);
  if (service.memory) parts.push(bytes(service.memory) + (service.memory_over ? " ⚠" : ""));
  return parts.join(" · ");
}

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
  return `${edge.from} → ${edge.to}: ${calls}, ${bytes(edge.sent)} sent, ${bytes(edge.received)} received`;
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
  if (service.behind) lines.unshift(`the version before serves: ${service.behind}`);
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
