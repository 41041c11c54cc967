// The section "Services" of the panel of what runs.

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { Dialog, showDialog } from "@jupyterlab/apputils";
import { IRunningSessionManagers, type IRunningSessions } from "@jupyterlab/running";
import { ITranslator, nullTranslator, type TranslationBundle } from "@jupyterlab/translation";
import { addIcon, SidePanel, ToolbarButton } from "@jupyterlab/ui-components";
import type { CommandRegistry } from "@lumino/commands";
import type { IDisposable } from "@lumino/disposable";
import { type ISignal, Signal } from "@lumino/signaling";
import { graphIcon, stateIcons } from "./icons.ts";
import { allServices, type Listed } from "./protocol.ts";
import type { Services } from "./services.ts";
import { Steering, type Target } from "./steering.ts";
import { Commands, INbcompose } from "./tokens.ts";
import { conditionWords, lookOf, rowWords, runtimeName, stopAllWords, stopWords, titleWords } from "./words.ts";

const AT_MOST = 250; // ms between drawings of the section
/** ms after which an opened section is drawn: at first it shows what there was at the start, and it hears of no change before
 * React has made it. */
const OPENING = [AT_MOST, 1000, 4000];

type Item = IRunningSessions.IRunningItem;

/** What a service's item in the panel is found by, for the context menu. */
export const contextOf = (target: Target): string =>
  JSON.stringify({ runtime: target.runtime.id, service: target.service.name });

export class RunningServices implements IRunningSessions.IManager {
  readonly name: string;
  readonly supportsMultipleViews = true;
  readonly shutdownLabel: string;
  readonly shutdownAllLabel: string;
  readonly toolbarButtons: ToolbarButton[];
  #changed = new Signal<this, void>(this);
  #steering: Steering;
  #waiting: ReturnType<typeof setTimeout> | undefined;
  #look: IDisposable | null = null;
  #count = 0;

  constructor(
    private readonly services: Services,
    private readonly commands: CommandRegistry,
    private readonly trans: TranslationBundle,
    /** Whether a process is a kernel of this server. */
    private readonly isOwn: (runtime: Listed) => boolean,
    /** Have the sections laid out again. */
    private readonly fit: () => void,
  ) {
    this.name = trans.__("Services");
    this.shutdownLabel = trans.__("Stop");
    this.shutdownAllLabel = trans.__("Stop All");
    this.#steering = new Steering(services, trans);
    this.toolbarButtons = [this.#newButton()];
    services.changed.connect(this.#drawSoon);
  }

  #drawSoon = (): void => {
    this.#waiting ??= setTimeout(() => {
      this.#waiting = undefined;
      this.#draw();
    }, AT_MOST);
  };

  /** JupyterLab does not look by itself at how high a section has to be (style/base.css) when that has other items. */
  #draw = (): void => {
    this.#changed.emit();
    const count = [...allServices(this.services.runtimes)].length;
    if (count === this.#count) return;
    this.#count = count;
    this.#fit();
  };

  #fit(): void {
    setTimeout(this.fit, AT_MOST); // when React has made the items
  }

  get runningChanged(): ISignal<this, void> {
    return this.#changed;
  }

  shutdownAllConfirmationText = (): string => {
    const { own, others } = this.#whose();
    return stopAllWords(own, others, this.trans).first;
  };

  /** JupyterLab has asked, and Enter was enough for that: of programs outside this server it is asked once more. */
  shutdownAll(): void {
    void this.#steering.tell(this.#stopAll());
  }

  async #stopAll(): Promise<void> {
    const { trans } = this;
    const { own, others } = this.#whose();
    const { asked } = stopAllWords(own, others, trans);
    await this.#steering.stopAll(own);
    const title = trans.__("Stop services of programs outside this server, too?");
    if (asked && (await this.#steering.sure(title, asked, trans.__("Stop"), true)))
      await this.#steering.stopAll(others);
  }

  #whose(): { own: Listed[]; others: Listed[] } {
    const { runtimes } = this.services;
    return { own: runtimes.filter(this.isOwn), others: runtimes.filter((runtime) => !this.isOwn(runtime)) };
  }

  refreshRunning(): void {
    if (this.services.condition !== "live") void this.services.refresh();
    this.#drawSoon();
  }

  running(options?: { mode: "tree" | "list" }): Item[] {
    const why = conditionWords(this.services.condition, this.trans);
    if (why && this.services.condition !== "lost") return [this.#notice(why)];
    const { own, others } = this.#whose();
    const shown = [...own, ...others].filter((runtime) => runtime.services.length || runtime.trouble);
    if (options?.mode === "list") return shown.flatMap((runtime) => this.#children(runtime, true));
    return shown.map((runtime) => this.#runtime(runtime));
  }

  /** Have the numbers come while the section can be seen: its button is there even where it has no items. */
  #newButton(): ToolbarButton {
    const button = new ToolbarButton({
      icon: addIcon,
      tooltip: this.trans.__("New composed notebook"),
      onClick: () => void this.commands.execute(Commands.newNotebook),
    });
    const observer = new IntersectionObserver((entries) => {
      const isSeen = entries[entries.length - 1]?.isIntersecting ?? false;
      if (isSeen) {
        this.#look ??= this.services.look();
        for (const wait of OPENING) setTimeout(this.#draw, wait);
        this.#fit();
      } else {
        this.#look?.dispose();
        this.#look = null;
      }
    });
    observer.observe(button.node);
    return button;
  }

  /** A line of the panel has little room: the way out is in a window of its own. */
  #notice(words: string): Item {
    const { trans } = this;
    const isMissing = this.services.condition === "missing";
    return {
      className: "nbc-running-notice",
      icon: () => stateIcons.stopped,
      label: () => (isMissing ? trans.__("Server extension is off…") : words),
      labelTitle: () => words,
      open: () => void showDialog({ title: trans.__("Services"), body: words, buttons: [Dialog.okButton()] }),
    };
  }

  #runtime(runtime: Listed): Item {
    const { trans } = this;
    return {
      className: "nbc-running-runtime",
      icon: () => graphIcon,
      label: () => runtimeName(runtime, this.services.runtimes),
      labelTitle: () => this.#runtimeTitle(runtime),
      detail: () => runtime.trouble || (runtime.kind === "serve" ? trans.__("process %1", runtime.pid) : ""),
      children: this.#children(runtime, false),
      open: () => this.#open({ runtime: runtime.id }, runtime.path),
      ...(runtime.services.length && { shutdown: () => void this.#steering.tell(this.#stopRuntime(runtime)) }),
    };
  }

  #runtimeTitle(runtime: Listed): string {
    const { trans } = this;
    const kind = runtime.kind === "serve" ? trans.__("nbcompose serve") : trans.__("kernel %1", runtime.id);
    const lines = [runtime.path || runtime.title, `${kind} · ${trans.__("process %1", runtime.pid)}`];
    lines.push(`nbcompose ${runtime.version}`, runtime.trouble);
    return lines.filter(Boolean).join("\n");
  }

  #children(runtime: Listed, isFlat: boolean): Item[] {
    return runtime.services.map((service) => {
      const target = { runtime, service };
      return {
        className: `nbc-running-service nbc-running-${lookOf(service)}`,
        context: contextOf(target),
        icon: () => stateIcons[lookOf(service)],
        label: () => (isFlat ? `${service.name} – ${runtimeName(runtime, this.services.runtimes)}` : service.name),
        labelTitle: () => titleWords(runtime, service, this.trans),
        detail: () => rowWords(service, this.trans),
        open: () => this.#open({ runtime: runtime.id, service: service.name }, runtime.path),
        shutdown: () => void this.#steering.tell(this.#steering.stop(target)),
      };
    });
  }

  async #stopRuntime(runtime: Listed): Promise<void> {
    const { trans } = this;
    const names = runtime.services.map((service) => service.name);
    const [only] = runtime.services;
    const body =
      only && names.length === 1
        ? stopWords(runtime, only.name, trans)
        : trans.__("%1 will be stopped, with their models.", names.join(", "));
    const title = trans.__("Stop all services of %1?", runtimeName(runtime, this.services.runtimes));
    if (await this.#steering.sure(title, body, trans.__("Stop"), !this.isOwn(runtime)))
      await this.#steering.stopAll([runtime]);
  }

  /** Show the graph; where those plugins are disabled, the notebook. */
  #open(args: { runtime: string; service?: string }, path: string): void {
    const graph = args.service ? [Commands.showService, Commands.openGraph] : [Commands.openGraph];
    const command = graph.find((id) => this.commands.hasCommand(id));
    if (command) void this.commands.execute(command, args);
    else if (path) void this.commands.execute("docmanager:open", { path });
  }
}

/** Lay out the sections of the panel of what runs, where it is at a side. */
function fitSections(shell: JupyterFrontEnd.IShell): void {
  for (const area of ["left", "right"]) {
    for (const widget of shell.widgets(area)) {
      if (widget.id === "jp-running-sessions" && widget instanceof SidePanel) widget.content.fit();
    }
  }
}

export const runningPlugin: JupyterFrontEndPlugin<void> = {
  id: "nbcompose:running",
  description: "Lists the services of nbcompose among all that runs.",
  autoStart: true,
  requires: [INbcompose],
  // Optional, since Notebook has it on one of its pages only.
  optional: [IRunningSessionManagers, ITranslator],
  activate(
    app: JupyterFrontEnd,
    services: INbcompose,
    managers: IRunningSessionManagers | null,
    translator: ITranslator | null,
  ): void {
    if (!managers) return;
    const trans = (translator ?? nullTranslator).load("nbcompose");
    const { kernels } = app.serviceManager;
    const isOwn = ({ id }: Listed): boolean => [...kernels.running()].some((kernel) => kernel.id === id);
    managers.add(new RunningServices(services, app.commands, trans, isOwn, () => fitSections(app.shell)));
  },
};
