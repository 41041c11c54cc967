// How the services of a cell are, and whether its text is still the one that started them.

import type { TranslationBundle } from "@jupyterlab/translation";
import type { ListedService, PlannedService, StoppedService } from "./protocol.ts";
import { LOOKS, type Look, looksOf, stateWords } from "./words.ts";

/** How a service is, as its cell shows it. */
export type CellState = Look | "edited";

/** The worst is first; what is edited is as good as what is ready. */
const CELL_STATES: readonly CellState[] = LOOKS.flatMap((look): CellState[] =>
  look === "ready" ? ["edited", look] : [look],
);

/** A cell as it is written now; `count`: of its last run. */
export interface CellText {
  id: string;
  text: string;
  count: number | null;
}

/**
 * A service that a cell started. `service`: null where it was stopped; `states`: all that it is, the worst first;
 * `isEarlier`: the cell has run since with a text that does not define it.
 */
export interface CellService {
  name: string;
  service: ListedService | null;
  states: CellState[];
  isEarlier: boolean;
}

/**
 * A cell with services. `state`: the worst of all that its text defines; `isEdited`: the text is another one than what
 * started a service; `wantsPlan`: a run would do something.
 */
export interface ServiceCell {
  state: CellState;
  isEdited: boolean;
  wantsPlan: boolean;
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

/** Whether a text starts services. A decorator alone declares them. */
const MAKES_SERVICES = /^%%service\b/m;

/** Whether a text defines a service, as far as that is seen without the kernel. */
function isMadeBy(service: Pick<StoppedService, "name"> & { source?: string }, text: string, hash: string): boolean {
  if (service.source && service.source === hash) return true;
  const name = service.name.replace(/[^\w]/g, "\\$&");
  return (
    MAKES_SERVICES.test(text)
    && new RegExp(`\\bclass\\s+${name}\\b|(["'])${name}\\1|^%%service.* --name[ =]${name}\\b`, "m").test(text)
  );
}

function statesOf(service: ListedService, hash: string): CellState[] {
  const looks: CellState[] = looksOf(service);
  if (!service.source || service.source === hash) return looks;
  return [...looks.filter((look) => look !== "ready"), "edited"];
}

const worst = (states: readonly CellState[]): CellState => CELL_STATES.find((s) => states.includes(s)) ?? "ready";

/**
 * The services that a cell started and that its kernel runs, whatever its text is now, and those that were stopped and
 * that its text would start; null where there are none.
 */
export function serviceCell(
  cell: Pick<CellText, "id" | "text">,
  services: readonly ListedService[],
  stopped: readonly StoppedService[] = [],
): ServiceCell | null {
  const isHere = ({ cell: id }: { cell: string }) => Boolean(id) && id === cell.id;
  const [here, were] = [services.filter(isHere), stopped.filter(isHere)];
  if (!here.length && !were.length) return null;
  const hash = textHash(cell.text);
  const hasRun = here.some(({ source }) => source === hash); // with the text that it has now
  const found: CellService[] = here.map((service) => {
    const isEarlier = hasRun && Boolean(service.source) && !isMadeBy(service, cell.text, hash);
    return { name: service.name, service, isEarlier, states: isEarlier ? looksOf(service) : statesOf(service, hash) };
  });
  for (const one of were) {
    if (isMadeBy(one, cell.text, hash))
      found.push({ name: one.name, service: null, isEarlier: false, states: ["stopped"] });
  }
  if (!found.length) return null;
  const present = found.filter(({ isEarlier }) => !isEarlier);
  const states = (present.length ? present : found).flatMap((one) => one.states);
  const isEdited = states.includes("edited");
  const wantsPlan = isEdited || found.some(({ service }) => service === null);
  return { state: worst(states), isEdited, wantsPlan, services: found };
}

/** The service that a click on the cell's badge leads to: one that runs. */
export function worstService({ state, services }: ServiceCell): ListedService | null {
  const running = services.filter(({ service }) => service !== null);
  return (running.find(({ states }) => states.includes(state)) ?? running[0])?.service ?? null;
}

/** What is said of a cell: each service with all that it is. */
export function cellWords({ services }: ServiceCell, trans: TranslationBundle): string {
  const said = services.map(({ name, states, isEarlier }) => {
    const words = `${name} ${stateWords(states, trans)}`;
    return isEarlier ? trans.__("%1 (of an earlier text)", words) : words;
  });
  return said.join(" · ");
}

/**
 * What a run of the cell will do with its services, and which of them it leaves alone because its text does not define
 * them any more; "" where nobody has told.
 */
export function planWords(
  plan: readonly PlannedService[] | null,
  { services }: Pick<ServiceCell, "services">,
  trans: TranslationBundle,
): string {
  if (!plan) return "";
  const left = leftAlone(plan, services);
  const starts = plan.filter(({ outcome }) => outcome === "start").map(({ service }) => service);
  const others = plan.filter(({ outcome }) => outcome !== "start");
  const words = others.map((planned) => outcomeWords(planned, trans));
  const [only] = words;
  if (only && !starts.length && !left.length && new Set(words).size === 1) return only;
  const parts = others.map(({ service }, i) => `${service} ${words[i]}`);
  if (starts.length && left.length) {
    parts.push(trans._n("starts a new service, %2", "starts new services, %2", starts.length, starts.join(", ")));
  } else if (starts.length) parts.push(trans.__("starts %1", starts.join(", ")));
  if (left.length) {
    if (!plan.length) parts.push(trans.__("starts no service"));
    parts.push(trans._n("%2 goes on running", "%2 go on running", left.length, left.join(", ")));
  }
  return parts.join("; ");
}

/** Services that run and that a run of the cell does not touch; none where it cannot be told what that does. */
function leftAlone(plan: readonly PlannedService[], services: readonly CellService[]): string[] {
  if (plan.some(({ outcome }) => outcome === "unknown")) return [];
  const touched = new Set(plan.map(({ service }) => service));
  const running = services.filter(
    ({ service }) => service && service.state !== "failed" && service.state !== "stopped",
  );
  return running.map(({ name }) => name).filter((name) => !touched.has(name));
}

function outcomeWords({ outcome, why }: PlannedService, trans: TranslationBundle): string {
  if (outcome === "nothing") return trans.__("does nothing");
  if (outcome === "swap") return trans.__("swaps the code, weights kept");
  if (outcome === "unknown") return trans.__("cannot tell: %1", why);
  return trans.__("starts new replicas");
}
