// What the server extension tells about the processes that run services, and what it is asked.

import type {
  PlannedCell,
  PlannedService,
  Event as RuntimeEvent,
  RuntimeReply,
  RuntimeRequest,
  Service,
  StoppedService,
} from "../../nbcompose/_notebook/graph/static/src/messages.d.ts";

export type { PlannedCell, PlannedService, RuntimeEvent, RuntimeReply, RuntimeRequest, Service, StoppedService };

/** One service; `link`: the path of its address through Jupyter, "" where it does not answer over HTTP. */
export interface ListedService extends Service {
  link: string;
}

/**
 * A process that runs services. `id`: the kernel's id, or `serve-PID`; `path`: of the notebook that is open with this
 * kernel, "" if none; `trouble`: why nothing can be asked of it, "" where all is well; `stopped`: services that cells
 * started, and that were stopped since. `comm`: of a kernel that the server does not see, and that is asked over a comm:
 * when it said something last (ms), and whether it does not hear since a cell runs.
 */
export interface Listed {
  id: string;
  kind: "kernel" | "serve";
  pid: number;
  title: string;
  path: string;
  kernel: string;
  version: string;
  trouble: string;
  services: ListedService[];
  stopped: StoppedService[];
  comm?: { heard: number; waits: boolean };
}

/** Said over the WebSocket by the server; `waits` by the comms in front of it (`commServer.ts`). */
export type Told =
  | { type: "runtimes"; runtimes: Listed[] }
  | { type: "gone"; runtime: string }
  | { type: "waits"; runtime: string; on: boolean }
  | { type: "failed"; message: string }
  | { type?: undefined; from: string; message: RuntimeReply | RuntimeEvent };

const EVENTS: ReadonlySet<string> = new Set(["state", "lines", "begun", "item", "items", "debugged"]);

/** Whether a message ends its request. */
export const isReply = (message: RuntimeReply | RuntimeEvent): message is RuntimeReply => !EVENTS.has(message.type);

/** The services of all processes, each with its own. */
export function* allServices(runtimes: readonly Listed[]): Generator<{ runtime: Listed; service: ListedService }> {
  for (const runtime of runtimes) for (const service of runtime.services) yield { runtime, service };
}
