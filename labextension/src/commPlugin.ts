// Follows the kernels of open notebooks, which may run services that Jupyter's server does not see.

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { INotebookTracker, type NotebookPanel } from "@jupyterlab/notebook";
import type { Kernel, KernelMessage } from "@jupyterlab/services";
import type { JSONObject } from "@lumino/coreutils";
import type { CommHearer, CommKernel, CommLike } from "./commChannel.ts";
import { Comms } from "./comms.ts";
import { IComms } from "./tokens.ts";

const SUBSHELL_WITHIN = 2000; // ms
const RUNS = new Set(["execute_request", "execute_input"]);

/** Newer ones have subshells, over which a kernel hears while a cell runs. */
type Comm = Kernel.IComm & { subshellStarted?: Promise<void>; commsOverSubshells?: string };

/** Wait until what is sent goes to the subshell, where there is one: what comes before would wait for the cell's end. */
async function subshell(kernel: Kernel.IKernelConnection, comm: Comm): Promise<void> {
  const { subshellStarted: started, commsOverSubshells: how } = comm;
  const { supportsSubshells: has } = kernel as { supportsSubshells?: boolean };
  if (!started || !has || how === "disabled") return;
  const late = new Promise<void>((resolve) => setTimeout(resolve, SUBSHELL_WITHIN));
  await Promise.race([started.catch(() => undefined), late]);
}

function commKernel(kernel: Kernel.IKernelConnection, panel: NotebookPanel): CommKernel {
  return {
    id: kernel.id,
    path: () => panel.context.path,
    isIdle: () => kernel.status === "idle" && kernel.connectionStatus === "connected",
    async has(target_name) {
      const { content } = await kernel.requestCommInfo({ target_name });
      return content.status === "ok" && Object.keys(content.comms).length > 0;
    },
    async open(target, data, { hear, closed }: CommHearer): Promise<CommLike> {
      const comm = kernel.createComm(target) as Comm;
      await subshell(kernel, comm);
      comm.onMsg = ({ content }) => hear(content.data);
      comm.onClose = () => closed();
      comm.open(data as JSONObject);
      const isThere = () => !comm.isDisposed && !kernel.isDisposed;
      return {
        send: (message) => {
          if (isThere()) comm.send(message as JSONObject);
        },
        close: () => {
          if (isThere()) comm.close();
        },
      };
    },
  };
}

/** The kernel that a notebook has at present. */
class NotebookKernel {
  #kernel: Kernel.IKernelConnection | null = null;
  #mayHave = false; // nbcompose: something that names it was run

  constructor(
    private readonly panel: NotebookPanel,
    private readonly comms: Comms,
  ) {
    const { sessionContext, context } = panel;
    sessionContext.kernelChanged.connect(this.#changed, this);
    sessionContext.statusChanged.connect(this.#heed, this);
    context.pathChanged.connect(this.#renamed, this);
    panel.disposed.connect(() => this.#leave());
    this.#changed();
  }

  #changed(): void {
    const now = this.panel.sessionContext.session?.kernel ?? null;
    if (now === this.#kernel) return;
    this.#leave();
    // Another notebook that has the same kernel gets no messages of comms.
    if (!now?.handleComms) return;
    this.#kernel = now;
    now.anyMessage.connect(this.#hear, this);
    this.comms.add(commKernel(now, this.panel));
  }

  #leave(): void {
    const before = this.#kernel;
    this.#kernel = null;
    this.#mayHave = false;
    if (!before) return;
    before.anyMessage.disconnect(this.#hear, this);
    this.comms.remove(before.id);
  }

  #renamed(): void {
    if (this.#kernel) this.comms.renamed(this.#kernel.id);
  }

  /** What any front end runs in this kernel, and what is run from here without being shown. */
  #hear(_: unknown, { msg }: Kernel.IAnyMessageArgs): void {
    if (!RUNS.has(msg.header.msg_type)) return;
    const { code } = msg.content as KernelMessage.IExecuteInputMsg["content"];
    if (code.includes("nbcompose")) this.#mayHave = true;
  }

  #heed(_: unknown, status: Kernel.Status): void {
    const id = this.#kernel?.id;
    if (id === undefined) return;
    if (status === "restarting" || status === "autorestarting" || status === "dead") {
      this.#mayHave = false;
      this.comms.restarted(id);
    } else if (status === "busy" || status === "idle") {
      this.comms.runs(id, status === "busy");
      if (status === "idle" && this.#mayHave) {
        this.#mayHave = false;
        this.comms.mayHave(id);
      }
    }
  }
}

export const commPlugin: JupyterFrontEndPlugin<IComms> = {
  id: "nbcompose:comm",
  description: "Asks kernels for their services that the server does not see, on another machine or in a container.",
  autoStart: true,
  provides: IComms,
  optional: [INotebookTracker],
  activate(_: JupyterFrontEnd, notebooks: INotebookTracker | null): IComms {
    const comms = new Comms();
    const follow = (panel: NotebookPanel): void => void new NotebookKernel(panel, comms);
    notebooks?.widgetAdded.connect((_, panel) => follow(panel));
    notebooks?.forEach(follow); // Notebook has opened its own already
    return comms;
  },
};
