// What is said of services.

import type { TranslationBundle } from "@jupyterlab/translation";
import { bytes, time } from "../../nbcompose/_replica/http/static/words.js";
import { allServices, type Listed, type ListedService } from "./protocol.ts";
import type { Condition } from "./services.ts";

const rateWords = (rate: number) => (rate && rate < 10 ? `${Number(rate.toPrecision(2))}/s` : `${Math.round(rate)}/s`);

/** How a service is, in one word for the eye: the colour and the shape of its sign. The worst is first. */
export const LOOKS = ["failed", "behind", "waiting", "starting", "stopped", "stale", "ready"] as const;
export type Look = (typeof LOOKS)[number];

/** All that a service is, the worst first: the same wherever this extension shows it. */
export function looksOf(service: ListedService): Look[] {
  const looks: Look[] = [];
  if (service.state !== "ready") looks.push(service.state);
  else if (service.behind) looks.push("behind");
  else if (service.coming) looks.push("starting");
  if (service.stale.length) looks.push("stale");
  return looks.length ? looks : ["ready"];
}

export const lookOf = (service: ListedService): Look => looksOf(service)[0] ?? "ready";

/**
 * What a runtime is called: by its notebook, its title, or its number. `among`: all that are shown; those of the same
 * name are told apart by the folders of their notebooks, or by their numbers.
 */
export function runtimeName(runtime: Listed, among: readonly Listed[] = []): string {
  const name = shortName(runtime);
  const others = among.filter((other) => other.id !== runtime.id && shortName(other) === name);
  if (!others.length) return name;
  const { path, pid } = runtime;
  if (path && !others.some((other) => other.path === path)) return path;
  return `${name} (${pid})`;
}

function shortName(runtime: Listed): string {
  const path = runtime.path || runtime.title;
  if (path === "?") return `process ${runtime.pid}`; // it has never answered: this finds it
  return (
    path.split("/").pop() || (runtime.kind === "serve" ? `nbcompose serve (${runtime.pid})` : runtime.id.slice(0, 8))
  );
}

/** States in words; `edited` is what only a cell can be. */
export function stateWords(states: readonly (Look | "edited")[], trans: TranslationBundle): string {
  const words: Record<Look | "edited", string> = {
    ready: trans.__("ready"),
    starting: trans.__("starting"),
    waiting: trans.__("waiting"),
    failed: trans.__("failed"),
    stopped: trans.__("stopped"),
    behind: trans.__("ready, previous version"),
    stale: trans.__("stale"),
    edited: trans.__("edited"),
  };
  return states.map((state) => words[state]).join(", ");
}

/** State, device, memory and rate, as far as they are known. */
export function detailWords(service: ListedService, trans: TranslationBundle): string {
  const parts = [stateWords(looksOf(service), trans), service.device];
  if (service.wanted > 1) parts.push(`${service.up}/${service.wanted}`);
  if (service.memory) parts.push(bytes(service.memory) + (service.memory_over ? " ⚠" : ""));
  if (service.rate > 0) parts.push(rateWords(service.rate));
  return parts.filter(Boolean).join(" · ");
}

/**
 * The same where there is room for a few letters: the state, and of the rest what is not as usual, the most urgent
 * first. All of it is in the row's tooltip.
 */
export function rowWords(service: ListedService, trans: TranslationBundle): string {
  const parts = [stateWords(looksOf(service), trans)];
  if (service.memory_over) parts.push(`${bytes(service.memory)} ⚠`);
  if (service.wanted > 1) parts.push(`${service.up}/${service.wanted}`);
  if (service.rate > 0) parts.push(rateWords(service.rate));
  if (service.device !== "cpu") parts.push(service.device);
  return parts.filter(Boolean).join(" · ");
}

/** All that is worth knowing of a service, a line each. */
export function titleWords(runtime: Listed, service: ListedService, trans: TranslationBundle): string {
  const lines = [`${service.name}: ${detailWords(service, trans)}`];
  const phase = service.phase || service.reason;
  if (phase && service.state !== "ready") lines.push(phase);
  if (service.p50_ms !== null) lines.push(trans.__("half of its answers within %1", time(service.p50_ms / 1000)));
  if (service.behind) lines.push(trans.__("this is the previous version: %1", service.behind));
  if (service.error) lines.push(service.error);
  if (service.stale.length) lines.push(trans.__("stale: %1 changed in the notebook since", service.stale.join(", ")));
  if (service.dependencies.length) lines.push(trans.__("needs %1", service.dependencies.join(", ")));
  const needed = dependents(runtime, service.name);
  if (needed.length) lines.push(trans.__("needed by %1", needed.join(", ")));
  return lines.join("\n");
}

/** The services of a process that call this one. */
export const dependents = (runtime: Listed, name: string): string[] =>
  runtime.services.filter((s) => s.dependencies.includes(name)).map((s) => s.name);

/** What is asked before a service is stopped. */
export function stopWords(runtime: Listed, name: string, trans: TranslationBundle): string {
  const found = new Set([name]); // and those that need it, also by others that do
  for (const needed of found) for (const above of dependents(runtime, needed)) found.add(above);
  found.delete(name);
  const needed = [...found];
  if (!needed.length) return trans.__("No service needs %1.", name);
  const many = [...needed.slice(0, 2), trans._n("%1 more", "%1 more", needed.length - 2)];
  return trans.__("%1 cannot answer without %2.", (needed.length > 3 ? many : needed).join(", "), name);
}

/**
 * Of all services: how many there are and how often they are called, how many are how at their worst, and how the worst
 * of them is.
 */
export interface Sum {
  count: number;
  rate: number;
  looks: Partial<Record<Look, number>>;
  look: "ready" | "waiting" | "failed" | "none";
}

export function sumOf(runtimes: readonly Listed[]): Sum {
  const sum: Sum = { count: 0, rate: 0, looks: {}, look: "none" };
  for (const { service } of allServices(runtimes)) {
    if (service.state === "stopped") continue;
    sum.count += 1;
    sum.rate += service.rate;
    const look = lookOf(service);
    sum.looks[look] = (sum.looks[look] ?? 0) + 1;
    if (look === "failed") sum.look = "failed";
    else if (sum.look !== "failed" && (look !== "ready" || service.memory_over)) sum.look = "waiting";
    else if (sum.look === "none") sum.look = "ready";
  }
  return sum;
}

/** The rate only where it is that of now. */
export function sumWords(sum: Sum, isLive: boolean, trans: TranslationBundle): string {
  const count = trans._n("%1 service", "%1 services", sum.count);
  return isLive && sum.rate > 0 ? `${count} · ${rateWords(sum.rate)}` : count;
}

/** They differ in shape, for who sees no colours; at cells style/base.css has the same. */
const SIGNS: Record<Look, string> = {
  failed: "✖",
  behind: "▲",
  waiting: "◷",
  starting: "◌",
  stopped: "■",
  stale: "◐",
  ready: "●",
};

/** The sign of the worst of them. */
const signOf = ({ looks }: Sum): string => SIGNS[LOOKS.find((look) => looks[look]) ?? "ready"];

/** How many are how, the worst first. */
export const looksWords = ({ looks }: Sum, trans: TranslationBundle): string =>
  LOOKS.flatMap((look) => (looks[look] ? [`${looks[look]} ${stateWords([look], trans)}`] : [])).join(", ");

/** What the status bar says: of the notebook in front, or how many others there are. */
export interface StatusWords {
  /** Of the services that it is about: a neutral one where they are those of others. */
  look: Sum["look"];
  sign: string;
  words: string;
  /** All that is worth knowing, a line each. */
  title: string;
}

/** `here`: the process of the notebook in front; undefined where there is none, or it runs no services. */
export function statusWords(
  runtimes: readonly Listed[],
  here: Listed | undefined,
  condition: Condition,
  trans: TranslationBundle,
): StatusWords {
  const isLive = condition === "live";
  const line = (name: string, sum: Sum): string =>
    [trans.__("%1: %2", name, sumWords(sum, isLive, trans)), looksWords(sum, trans)].filter(Boolean).join("; ");
  const own = sumOf(here ? [here] : []);
  const others = runtimes.filter((runtime) => runtime !== here && sumOf([runtime]).count);
  const lines = own.count && here ? [line(runtimeName(here, runtimes), own)] : [];
  if (others.length) {
    const name = (runtime: Listed): string => whoseName(runtime, runtimes, trans);
    lines.push(trans.__("Elsewhere:"), ...others.map((runtime) => line(name(runtime), sumOf([runtime]))));
  }
  const all = sumOf(others);
  const words = own.count
    ? sumWords(own, isLive, trans)
    : trans._n("%1 service elsewhere", "%1 services elsewhere", all.count);
  const title = ["nbcompose", ...lines, conditionWords(condition, trans)].filter(Boolean).join("\n");
  return { look: own.look, sign: own.count ? signOf(own) : "○", words, title };
}

/** Whose services a process has: its notebook or program, which the same name may have several times. */
function whoseName(runtime: Listed, among: readonly Listed[], trans: TranslationBundle): string {
  if (runtime.kind === "serve") {
    return trans.__("%1 (nbcompose serve, process %2)", runtimeName(runtime), runtime.pid);
  }
  return runtimeName(runtime, among);
}

/** What is said before all services of these processes are stopped: how many there are, and whose; "" for none. */
function stoppedWords(runtimes: readonly Listed[], trans: TranslationBundle): string {
  const running = runtimes.map((runtime) => ({
    runtime,
    names: runtime.services.filter(({ state }) => state !== "stopped").map(({ name }) => name),
  }));
  const busy = running.filter(({ names }) => names.length);
  const count = busy.reduce((sum, { names }) => sum + names.length, 0);
  if (!count) return "";
  const whose = busy.map(({ runtime, names }) => {
    return trans.__("%1 of %2: %3", names.length, whoseName(runtime, runtimes, trans), names.join(", "));
  });
  const head = trans._n(
    "%1 service will be stopped, with its models",
    "%1 services will be stopped, with their models",
    count,
  );
  return `${head}. ${whose.join("; ")}.`;
}

/** What is asked before "Stop All": those of this server's kernels are stopped; of others it is asked after that. */
export function stopAllWords(
  own: readonly Listed[],
  others: readonly Listed[],
  trans: TranslationBundle,
): { first: string; asked: string } {
  const asked = stoppedWords(others, trans);
  const first = stoppedWords(own, trans) || trans.__("No service of this server's notebooks runs.");
  const next = asked && trans.__("You are asked about services of programs outside this server next.");
  return { first: [first, next].filter(Boolean).join(" "), asked };
}

/** Why there is no list, and the way out; "" where there is one. */
export function conditionWords(condition: Condition, trans: TranslationBundle): string {
  if (condition === "missing") {
    return trans.__(
      "nbcompose's server extension is not enabled here. In the environment of Jupyter's server: pip install 'nbcompose[jupyter]' && jupyter server extension enable nbcompose; then start the server again.",
    );
  }
  if (condition === "refused") return trans.__("This user may not see the services of this server.");
  if (condition === "lost") return trans.__("Jupyter's server cannot be reached; trying again.");
  return "";
}
