// The graph of a notebook or of another process, or what is missing for one: what the panel and the tabs show.

import type { JupyterFrontEnd } from "@jupyterlab/application";
import type { INotebookTracker, NotebookPanel } from "@jupyterlab/notebook";
import type { TranslationBundle } from "@jupyterlab/translation";
import type { IDisposable } from "@lumino/disposable";
import type { Message } from "@lumino/messaging";
import { type ISignal, Signal } from "@lumino/signaling";
import { Widget } from "@lumino/widgets";
import { view } from "../../nbcompose/_notebook/graph/static/src/view.js";
import { clock } from "../../nbcompose/_replica/http/static/words.js";
import { clickedLine, linkLines } from "./cellsLinks.ts";
import { GraphLink, type LinkWords } from "./graphLink.ts";
import {
  type GraphTarget,
  type KernelState,
  type Loading,
  type Notice,
  notice,
  runtimeOf,
  sameTarget,
  targetName,
  type Way,
} from "./graphTarget.ts";
import type { Listed } from "./protocol.ts";
import type { Services } from "./services.ts";
import { LOAD, SERVICE_CELL } from "./template.ts";
import { CellCommands } from "./tokens.ts";

const MOST = 8; // graphs that are kept for who comes back to their notebook
const SEEN_WITHIN = 3000; // ms in which the server sees a kernel that has loaded nbcompose
const SHORTEST = 1000; // ms until a process that was lost, and is listed, is asked again: doubled each time
const LONGEST = 30000;
const TEXTS = "pre.nbc-logs, pre.nbc-traceback"; // that may name lines of cells

/** One graph that was made: it stays as it was left while another one is shown. */
interface Made {
  link: GraphLink;
  root: HTMLElement;
  shown: ReturnType<typeof view>;
  pid: number;
  wait: number;
  retry: ReturnType<typeof setTimeout> | undefined;
  /** Makes links of the lines that its panel names. */
  texts: MutationObserver;
}

export interface GraphParts {
  app: JupyterFrontEnd;
  services: Services;
  notebooks: INotebookTracker | null;
  trans: TranslationBundle;
}

export class GraphView extends Widget {
  #target: GraphTarget | null = null;
  #targetChanged = new Signal<this, void>(this);
  #notebook: NotebookPanel | null = null;
  #made = new Map<string, Made>(); // by the id of the process, the one shown last at the end
  #shown: Made | null = null;
  #wanted = ""; // a service to be chosen as soon as it is there
  #loading: Loading = { at: "no" };
  #notice = document.createElement("div");
  #noticed = "";
  #keep: IDisposable | null = null;

  constructor(private readonly parts: GraphParts) {
    super();
    this.addClass("nbc-graph-view");
    this.#notice.className = "nbc-graph-notice";
    this.#notice.setAttribute("role", "status");
    this.node.append(this.#notice);
    parts.services.changed.connect(this.#changed);
    parts.notebooks?.widgetAdded.connect(this.#changed);
  }

  get target(): GraphTarget | null {
    return this.#target;
  }

  set target(target: GraphTarget | null) {
    if (sameTarget(target, this.#target)) return;
    this.#target = target;
    this.#follow();
    this.#targetChanged.emit();
    this.update();
  }

  /** It is another one: as it was set, or since its notebook was renamed. */
  get targetChanged(): ISignal<this, void> {
    return this.#targetChanged;
  }

  get listed(): Listed | undefined {
    const kernel = this.#notebook?.sessionContext.session?.kernel?.id ?? "";
    return runtimeOf(this.#target, kernel, this.parts.services.runtimes);
  }

  /** What the target is called. */
  get targetName(): string {
    return targetName(this.#target, this.listed);
  }

  /** Choose a service, now or as soon as it is there. */
  find(service: string): void {
    this.#wanted = service;
    this.#findWanted();
  }

  override dispose(): void {
    if (this.isDisposed) return;
    this.#leaveNotebook();
    this.parts.services.changed.disconnect(this.#changed);
    this.parts.notebooks?.widgetAdded.disconnect(this.#changed);
    for (const made of this.#made.values()) end(made);
    this.#made.clear();
    this.#keep?.dispose();
    Signal.clearData(this);
    super.dispose();
  }

  // -- whether it can be seen

  protected override onAfterShow(_: Message): void {
    this.#see();
  }

  protected override onAfterAttach(_: Message): void {
    this.#see();
  }

  protected override onBeforeHide(_: Message): void {
    this.#lookAway();
  }

  protected override onBeforeDetach(_: Message): void {
    this.#lookAway();
  }

  #see(): void {
    if (!this.isVisible) return;
    this.#keep ??= this.parts.services.keep();
    this.update();
  }

  #lookAway(): void {
    this.#keep?.dispose();
    this.#keep = null;
    if (this.#shown) this.#shown.link.isShown = false;
  }

  // -- the notebook

  #changed = (): void => this.update();

  /** Hear of the notebook that is meant, if it is open. */
  #follow(): void {
    const { notebooks } = this.parts;
    const target = this.#target;
    const now = (target && "path" in target && notebooks?.find((panel) => panel.context.path === target.path)) || null;
    if (now === this.#notebook) return;
    this.#leaveNotebook();
    this.#notebook = now;
    if (!now) return;
    now.sessionContext.kernelChanged.connect(this.#kernelChanged);
    now.sessionContext.statusChanged.connect(this.#statusChanged);
    now.context.pathChanged.connect(this.#renamed);
    now.disposed.connect(this.#closed);
  }

  #leaveNotebook(): void {
    const before = this.#notebook;
    this.#notebook = null;
    this.#loading = { at: "no" };
    if (!before || before.isDisposed) return;
    before.sessionContext.kernelChanged.disconnect(this.#kernelChanged);
    before.sessionContext.statusChanged.disconnect(this.#statusChanged);
    before.context.pathChanged.disconnect(this.#renamed);
    before.disposed.disconnect(this.#closed);
  }

  #closed = (): void => {
    this.#leaveNotebook();
    this.update();
  };

  #renamed = (_: unknown, path: string): void => {
    this.#target = { path };
    this.#targetChanged.emit();
    this.update();
  };

  #kernelChanged = (): void => {
    this.#loading = { at: "no" };
    this.update();
  };

  #statusChanged = (_: unknown, status: string): void => {
    if (["restarting", "autorestarting", "dead", "terminating"].includes(status)) this.#loading = { at: "no" };
    this.update();
  };

  // -- what is shown

  protected override onUpdateRequest(_: Message): void {
    if (this.isDisposed) return;
    this.#follow();
    const { listed } = this;
    if (listed) this.#loading = { at: "no" };
    const kernel = this.#kernelState();
    const before = [...this.#made.keys()];
    const said = notice(
      {
        condition: this.parts.services.condition,
        target: this.#target,
        name: this.targetName,
        listed,
        kernel,
        language: this.#notebook?.sessionContext.kernelDisplayName ?? "",
        loading: this.#loading,
        had: before.includes(this.#notebook?.sessionContext.session?.kernel?.id ?? ""),
      },
      this.parts.trans,
    );
    this.#say(said);
    this.#show(said || !listed ? null : this.#graph(listed));
  }

  #kernelState(): KernelState {
    const context = this.#notebook?.sessionContext;
    if (!context) return "closed";
    const { session } = context;
    if (!session?.kernel) return context.isReady ? "none" : "starting";
    const { kernel } = session;
    const name = this.parts.app.serviceManager.kernelspecs.specs?.kernelspecs[kernel.name]?.language;
    return !name || name.toLowerCase() === "python" ? "python" : "other";
  }

  #say(said: Notice | null): void {
    this.#notice.hidden = !said?.words;
    const text = JSON.stringify(said);
    if (text === this.#noticed) return;
    this.#noticed = text;
    const buttons = (said?.ways ?? []).map((way) => {
      const button = document.createElement("button");
      button.className = "jp-Button jp-mod-styled nbc-graph-way";
      button.textContent = this.#wayWords(way);
      button.addEventListener("click", () => void this.#go(way));
      return button;
    });
    const words = document.createElement("p");
    words.textContent = said?.words ?? "";
    this.#notice.replaceChildren(words, ...buttons);
  }

  #wayWords(way: Way): string {
    const { trans } = this.parts;
    const words: Record<Way, string> = {
      load: trans.__("Load nbcompose"),
      open: trans.__("Open the notebook"),
      kernel: trans.__("Choose a kernel"),
      again: trans.__("Look again"),
    };
    return words[way];
  }

  async #go(way: Way): Promise<void> {
    const { commands, shell } = this.parts.app;
    if (way === "load") await this.#load();
    else if (way === "again") await this.parts.services.refresh();
    else if (way === "open" && this.#target && "path" in this.#target) {
      await commands.execute("docmanager:open", { path: this.#target.path });
    } else if (way === "kernel" && this.#notebook) {
      shell.activateById(this.#notebook.id);
      await commands.execute("notebook:change-kernel");
    }
  }

  /** Load the extension in the kernel, by a request of our own: the notebook, its counts and history know nothing of it. */
  async #load(): Promise<void> {
    const kernel = this.#notebook?.sessionContext.session?.kernel;
    if (!kernel) return;
    const become = (loading: Loading): void => {
      if (this.#notebook?.sessionContext.session?.kernel !== kernel) return;
      this.#loading = loading;
      this.update();
    };
    become({ at: "waits" });
    try {
      const content = { code: LOAD, silent: true, store_history: false, allow_stdin: false };
      const { content: reply } = await kernel.requestExecute(content).done;
      if (reply.status === "error") become({ at: "failed", why: `${reply.ename}: ${reply.evalue}` });
      else if (reply.status !== "ok") become({ at: "no" });
      else if (!this.listed) {
        this.parts.services.note();
        setTimeout(async () => {
          await this.parts.services.refresh();
          if (!this.isDisposed && !this.listed && this.#loading.at === "waits") become({ at: "done" });
        }, SEEN_WITHIN);
      }
    } catch {
      become({ at: "no" }); // the kernel was restarted meanwhile
    }
  }

  #show(now: Made | null): void {
    const before = this.#shown;
    if (before && before !== now) {
      before.link.isShown = false;
      before.root.hidden = true;
    }
    this.#shown = now;
    if (!now) return;
    now.root.hidden = false;
    now.link.isShown = this.isVisible;
    this.#findWanted();
  }

  #findWanted(): void {
    const { link, shown } = this.#shown ?? {};
    if (!this.#wanted || !link?.state().services.some(({ name }) => name === this.#wanted)) return;
    shown?.find(this.#wanted);
    this.#wanted = "";
  }

  /** The graph of a process: as it was left, or a new one. */
  #graph(listed: Listed): Made {
    const made = this.#made.get(listed.id) ?? this.#make(listed);
    this.#made.delete(listed.id);
    this.#made.set(listed.id, made);
    const isLost = made.link.condition() === "gone" && made.retry === undefined;
    if (made.pid !== listed.pid || isLost) {
      made.pid = listed.pid; // another one, of a kernel that was restarted
      clearTimeout(made.retry);
      made.retry = undefined;
      made.link.renew();
    }
    for (const [id, other] of this.#made) {
      if (this.#made.size <= MOST) break;
      end(other);
      this.#made.delete(id);
    }
    return made;
  }

  #make({ id, pid }: Listed): Made {
    const root = document.createElement("div");
    root.className = "nbc-screen nbc-graph-root";
    this.node.append(root);
    const link = new GraphLink(this.parts.services, id, this.#words(id));
    link.isShown = this.isVisible;
    const shown = view(root, link);
    const texts = this.#linkTexts(root);
    const made: Made = { link, root, shown, pid, wait: SHORTEST, retry: undefined, texts };
    link.listen((message) => {
      if (message.type === "state") {
        made.wait = SHORTEST;
        this.#findWanted();
      } else if (message.type === "link" && link.condition() === "gone") this.#lose(made);
    });
    return made;
  }

  /** Lines of cells that logs and errors name are links, as they are below the cells. */
  #linkTexts(root: HTMLElement): MutationObserver {
    const side = root.querySelector<HTMLElement>(".nbc-side");
    const title = this.parts.trans.__("Go to this line");
    const observer = new MutationObserver(() => {
      if (side && this.#notebook && this.#leads) linkLines(side, TEXTS, title);
    });
    if (!side) return observer;
    observer.observe(side, { childList: true, subtree: true });
    side.addEventListener("click", (event) => {
      const place = clickedLine(event);
      if (!place) return;
      event.preventDefault();
      void this.#goTo(place);
    });
    return observer;
  }

  /** Whether another plugin, which may be disabled, goes to lines. */
  get #leads(): boolean {
    return this.parts.app.commands.hasCommand(CellCommands.line);
  }

  async #goTo(place: { count: number; line: number }): Promise<void> {
    const { app, notebooks } = this.parts;
    const notebook = this.#notebook;
    if (!notebook || !notebooks || !this.#leads) return;
    if (document.fullscreenElement) await document.exitFullscreen();
    if (notebooks.currentWidget !== notebook) {
      const front = new Promise<void>((resolve) => {
        const look = (): void => {
          notebooks.currentChanged.disconnect(look);
          resolve();
        };
        notebooks.currentChanged.connect(look);
      });
      app.shell.activateById(notebook.id);
      await front;
    } else app.shell.activateById(notebook.id);
    await app.commands.execute(CellCommands.line, place);
  }

  /** Its process has ended, or the connection to it: where it is still listed after a while, it is asked again. */
  #lose(made: Made): void {
    const { services } = this.parts;
    services.note();
    made.retry ??= setTimeout(() => {
      made.retry = undefined;
      if (made === this.#shown && this.isVisible) void services.refresh(); // whose list has it asked again
    }, made.wait);
    made.wait = Math.min(LONGEST, 2 * made.wait);
  }

  #words(id: string): LinkWords {
    const { trans, services } = this.parts;
    const none = trans.__("No service runs here. A cell such as this one makes one:");
    return {
      empty: `${none}\n\n${SERVICE_CELL}`,
      get busy() {
        const heard = services.runtimes.find((runtime) => runtime.id === id)?.comm?.heard;
        const when = heard ? clock(heard / 1000) : "";
        return trans.__(
          "The kernel is busy with a cell, and hears what is asked when it has ended: this is what it said at %1.",
          when,
        );
      },
      lost: trans.__("The connection to Jupyter's server is lost, and is made again: what is shown is as it was."),
      gone: trans.__("The process of these services has ended, or does not answer."),
    };
  }
}

function end({ link, root, shown, retry, texts }: Made): void {
  clearTimeout(retry);
  texts.disconnect();
  shown.close();
  link.close();
  root.remove();
}
