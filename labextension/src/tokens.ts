// What this extension provides to its own plugins, and to other extensions.

import { Token } from "@lumino/coreutils";
import type { Comms } from "./comms.ts";
import type { Services } from "./services.ts";

export type INbcompose = Services;

export const INbcompose = new Token<INbcompose>(
  "nbcompose:INbcompose",
  "The services of nbcompose that run on this server: their list, kept current, and what can be asked of them.",
);

export type IComms = Comms;

export const IComms = new Token<IComms>(
  "nbcompose:IComms",
  "The kernels of open notebooks that run services where the server does not see them.",
);

/** Ids of commands; each is described where it is registered. */
export const Commands = {
  openGraph: "nbcompose:open-graph",
  showPanel: "nbcompose:show-panel",
  showService: "nbcompose:show-service",
  restart: "nbcompose:restart",
  stop: "nbcompose:stop",
  scale: "nbcompose:scale",
  rollBack: "nbcompose:roll-back",
  logs: "nbcompose:logs",
  copyUrl: "nbcompose:copy-url",
  copyCurl: "nbcompose:copy-curl",
  newCell: "nbcompose:new-service-cell",
  newNotebook: "nbcompose:new-notebook",
  showRunning: "nbcompose:show-running",
} as const;

/** Ids of commands for the active cell of the notebook in front. */
export const CellCommands = {
  restart: "nbcompose:cell-restart",
  stop: "nbcompose:cell-stop",
  logs: "nbcompose:cell-logs",
  graph: "nbcompose:cell-graph",
  line: "nbcompose:show-line",
} as const;
