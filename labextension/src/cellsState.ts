// How the services of a cell are, and whether its text is still the one that started them.

import type { TranslationBundle } from "@jupyterlab/translation";
import type { ListedService, PlannedService } from "./protocol.ts";

/** How a service is, as its cell shows it; the worst is first. */
export const CELL_STATES = ["failed", "behind", "waiting", "starting", "stopped", "stale", "edited", "ready"] as const;
export type CellState = (typeof CELL_STATES)[number];

/** A cell as it is written now; `count`: of its last run. */
export interface CellText {
  id: string;
  text: string;
  count: number | null;
}

/** A service that a cell started. `states`: all that it is, the worst first. */
export interface CellService {
  service: ListedService;
  states: CellState[];
}

/** A cell with services. `state`: the worst of all; `isEdited`: the text is another one than what started a service. */
export interface ServiceCell {
  state: CellState;
  isEdited: boolean;
  services: CellService[];
}

const PRIME = 0x1b3; // the prime of FNV-1a is 2 ** 40 + 0x1b3
const WORD = 2 ** 32;

/** FNV-1a of 64 bits, in 16 hex digits, of a text in UTF-8 without white space at its end: `Service.source`. */
export function textHash(text: string): string {
  let [high, low] = [0xcbf29ce4, 0x84222325];
  for (const byte of new TextEncoder().encode(text.trimEnd())) {
    low = (low ^ byte) >>> 0;
    const product = low * PRIME;
    high = (high * PRIME + Math.floor(product / WORD) + (low << 8)) >>> 0;
    low = product >>> 0;
  }
  return [high, low].map((word) => word.toString(16).padStart(8, "0")).join("");
}

/** Whether services are made by a text: by `%%service`, or a decorator. */
const MAKES_SERVICES = /^(?:%%service\b|@(?:\w+\.)?service\b)/m;

/**
 * Whether a service may be of a cell with this text. Ids alone do not tell: of a cell that was split, one half keeps
 * the id.
 */
function isMadeBy(service: ListedService, text: string, hash: string): boolean {
  if (service.source && service.source === hash) return true;
  const name = service.name.replace(/[^\w]/g, "\\$&");
  return (
    MAKES_SERVICES.test(text)
    && new RegExp(`\\bclass\\s+${name}\\b|(["'])${name}\\1|^%%service.* --name[ =]${name}\\b`, "m").test(text)
  );
}

function statesOf(service: ListedService, hash: string): CellState[] {
  const states: CellState[] = [];
  if (service.state !== "ready") states.push(service.state);
  else if (service.behind) states.push("behind");
  else if (service.coming) states.push("starting");
  if (service.stale.length) states.push("stale");
  if (service.source && service.source !== hash) states.push("edited");
  if (!states.length) states.push("ready");
  return states;
}

const worst = (states: readonly CellState[]): CellState => CELL_STATES.find((s) => states.includes(s)) ?? "ready";

/** The services that a cell started, of those that its kernel runs; null where there are none. */
export function serviceCell(
  cell: Pick<CellText, "id" | "text">,
  services: readonly ListedService[],
): ServiceCell | null {
  const here = services.filter((service) => service.cell && service.cell === cell.id);
  if (!here.length) return null;
  const hash = textHash(cell.text);
  const made = here.filter((service) => isMadeBy(service, cell.text, hash));
  if (!made.length) return null;
  const found = made.map((service) => ({ service, states: statesOf(service, hash) }));
  const all = found.flatMap(({ states }) => states);
  return { state: worst(all), isEdited: all.includes("edited"), services: found };
}

/** The service that a click on the cell's badge leads to. */
export const worstService = ({ state, services }: ServiceCell): ListedService | undefined =>
  (services.find(({ states }) => states.includes(state)) ?? services[0])?.service;

/** What is said of a cell: each service with all that it is. */
export function cellWords({ services }: ServiceCell, trans: TranslationBundle): string {
  const words: Record<CellState, string> = {
    failed: trans.__("failed"),
    behind: trans.__("behind"),
    waiting: trans.__("waiting"),
    starting: trans.__("starting"),
    stopped: trans.__("stopped"),
    stale: trans.__("stale"),
    edited: trans.__("edited"),
    ready: trans.__("ready"),
  };
  return services.map(({ service, states }) => `${service.name} ${states.map((s) => words[s]).join(", ")}`).join(" · ");
}

/** What a run of the cell will do with its services; "" where nobody has told. */
export function planWords(plan: readonly PlannedService[] | null, trans: TranslationBundle): string {
  if (!plan?.length) return "";
  const told = plan.map((planned) => [planned.service, outcomeWords(planned, trans)] as const);
  const outcomes = new Set(told.map(([, words]) => words));
  const [only] = outcomes;
  return outcomes.size === 1 && only ? only : told.map(([name, words]) => `${name} ${words}`).join("; ");
}

function outcomeWords({ outcome, why }: PlannedService, trans: TranslationBundle): string {
  if (outcome === "nothing") return trans.__("does nothing");
  if (outcome === "swap") return trans.__("swaps the code, weights kept");
  if (outcome === "unknown") return trans.__("cannot tell: %1", why);
  return trans.__("starts new replicas");
}
