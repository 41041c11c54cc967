// Whose graph is shown, and what is said where there is none.

import type { TranslationBundle } from "@jupyterlab/translation";
import type { Listed } from "./protocol.ts";
import type { Condition } from "./services.ts";
import { conditionWords } from "./words.ts";

/**
 * Whose graph: of the notebook with this path, whichever kernel it has, or of one process, by its id. A notebook is
 * known by its path, since that is what is the same after a reload.
 */
export type GraphTarget = { path: string } | { runtime: string };

export const sameTarget = (a: GraphTarget | null, b: GraphTarget | null): boolean => keyOf(a) === keyOf(b);

/** What no other target has. */
export const keyOf = (target: GraphTarget | null): string =>
  target ? ("path" in target ? `path:${target.path}` : `runtime:${target.runtime}`) : "";

/** A target that was kept, or given by a program; null where it is none. */
export function targetOf(value: unknown): GraphTarget | null {
  const given = (typeof value === "object" && value !== null ? value : {}) as Record<string, unknown>;
  if (typeof given.path === "string" && given.path) return { path: given.path };
  return typeof given.runtime === "string" && given.runtime ? { runtime: given.runtime } : null;
}

/** The target that lasts longest: of a kernel with a notebook, the notebook. */
export function lastingTarget(target: GraphTarget, runtimes: readonly Listed[]): GraphTarget {
  const path = "runtime" in target ? runtimes.find(({ id }) => id === target.runtime)?.path : "";
  return path ? { path } : target;
}

/** The process that a target means. `kernel`: the id of the kernel that the notebook has here, if it is open. */
export function runtimeOf(target: GraphTarget | null, kernel: string, runtimes: readonly Listed[]): Listed | undefined {
  if (!target) return undefined;
  if ("runtime" in target) return runtimes.find(({ id }) => id === target.runtime);
  return runtimes.find((runtime) => (kernel ? runtime.id === kernel : runtime.path === target.path));
}

/** What a target is called. */
export function targetName(target: GraphTarget | null, listed: Listed | undefined): string {
  if (!target) return "";
  if ("path" in target) return target.path.split("/").pop() ?? target.path;
  return listed?.title.split("/").pop() || target.runtime.slice(0, 13);
}

/** How the kernel is that the notebook has here. `closed`: the notebook is not open. */
export type KernelState = "closed" | "none" | "starting" | "other" | "python";

/** How it went with `%load_ext nbcompose`, if it was asked for here. */
export type Loading = { at: "no" | "waits" | "done" } | { at: "failed"; why: string };

export interface Situation {
  condition: Condition;
  target: GraphTarget | null;
  name: string;
  listed: Listed | undefined;
  kernel: KernelState;
  language: string;
  loading: Loading;
  /** Whether services were seen here before. */
  had: boolean;
}

/** A way out that is offered as a button. */
export type Way = "load" | "open" | "kernel" | "again";

export interface Notice {
  words: string;
  ways: Way[];
}

/** Why no graph can be shown, and the ways out; null where one can. */
export function notice(situation: Situation, trans: TranslationBundle): Notice | null {
  const { condition, target, listed, name } = situation;
  if (condition === "refused") return { words: conditionWords(condition, trans), ways: ["again"] };
  if (condition === "missing") return withoutServer(situation, trans);
  if (!target) return { words: trans.__("The graph of the notebook in front is shown here: open one."), ways: [] };
  if (listed?.trouble) {
    const words = trans.__("The services of %1 cannot be seen: its process %2.", name, listed.trouble);
    return { words, ways: ["again"] };
  }
  if (listed) return null;
  if (condition === "lost") return { words: conditionWords(condition, trans), ways: [] };
  if (condition === "idle") return { words: "", ways: [] };
  if ("runtime" in target) {
    const words = trans.__(
      "The process %1 has ended, and its services with it. Start it again: it has an id of its own.",
      name,
    );
    return { words, ways: [] };
  }
  return ofNotebook(situation, trans);
}

/** The kernels of open notebooks are asked themselves, once they have nbcompose (`comms.ts`). */
function withoutServer(situation: Situation, trans: TranslationBundle): Notice {
  const { target, kernel, loading, name } = situation;
  const words = conditionWords("missing", trans);
  if (!target || !("path" in target) || kernel !== "python" || loading.at === "done") {
    return { words: `${words} ${trans.__("%graph in a cell shows the graph without it.")}`, ways: ["again"] };
  }
  if (loading.at !== "no") return ofNotebook(situation, trans);
  const alone = trans.__(
    "Without it, the services of notebooks that are open here can be seen: load nbcompose in %1.",
    name,
  );
  return { words: `${words} ${alone}`, ways: ["load", "again"] };
}

function ofNotebook({ kernel, loading, language, name, had }: Situation, trans: TranslationBundle): Notice {
  if (kernel === "closed") {
    return { words: trans.__("%1 runs no services: open it, and run its cells.", name), ways: ["open"] };
  }
  if (kernel === "none") return { words: trans.__("%1 has no kernel: choose one.", name), ways: ["kernel"] };
  if (kernel === "starting") return { words: trans.__("The kernel of %1 is starting.", name), ways: [] };
  if (kernel === "other") {
    const words = trans.__("The kernel of %1 runs %2. Services run with a Python kernel: choose one.", name, language);
    return { words, ways: ["kernel"] };
  }
  if (loading.at === "waits") {
    return { words: trans.__("Loading nbcompose; a cell that runs ends first."), ways: [] };
  }
  if (loading.at === "failed") {
    const words = trans.__("nbcompose could not be loaded: %1. In a cell: %pip install nbcompose", loading.why);
    return { words, ways: ["load"] };
  }
  if (loading.at === "done") {
    const words = trans.__(
      "nbcompose is loaded in the kernel of %1, but this Jupyter server does not see it: it runs on another machine or in another container. %graph in a cell shows its services.",
      name,
    );
    return { words, ways: ["again"] };
  }
  if (had) {
    const words = trans.__(
      "The kernel was restarted or has ended, and its services with it: run the cells of %1 again.",
      name,
    );
    return { words, ways: ["load"] };
  }
  return { words: trans.__("nbcompose is not loaded in the kernel of %1.", name), ways: ["load"] };
}
