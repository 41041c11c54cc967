// The services of one notebook's cells: a state at each cell, a badge, and the lines that errors lead to.
//
// Nothing is listened to while the notebook cannot be seen. Nothing of the notebook's model is changed.

import { Notification } from "@jupyterlab/apputils";
import type { NotebookPanel } from "@jupyterlab/notebook";
import type { Kernel, KernelMessage } from "@jupyterlab/services";
import type { TranslationBundle } from "@jupyterlab/translation";
import { DisposableDelegate, DisposableSet, type IDisposable } from "@lumino/disposable";
import { type IMessageHandler, type Message, MessageLoop } from "@lumino/messaging";
import { type ISignal, Signal } from "@lumino/signaling";
import { Runs } from "./cellsLines.ts";
import { clickedLine, linkLines, markLine } from "./cellsLinks.ts";
import { Plans } from "./cellsPlans.ts";
import { type CellText, cellWords, planWords, type ServiceCell, serviceCell, worstService } from "./cellsState.ts";
import type { Listed, PlannedCell } from "./protocol.ts";
import type { Services } from "./services.ts";
import { stateWords, titleWords } from "./words.ts";

type Cell = NotebookPanel["content"]["widgets"][number];

/** The outputs of a code cell. */
interface Outputs {
  readonly node: HTMLElement;
  readonly widgets: readonly { readonly node: HTMLElement }[];
  readonly model: { get(index: number): { readonly type: string } | undefined };
}

/** Errors in cards, in what services write, and in the graph, whose other parts are its own. */
const OUR_ERRORS = "pre.nbc-traceback, pre.nbc-logs, pre:not(.nbc-app *)";
const BADGE = "nbc-cell-badge";
const OWN_KEYS = "data-lm-suppress-shortcuts";
const AFTER = 100; // ms in which changes are shown at once

/** Opens the graph of a process, at a service where one runs. */
export type OpenGraph = (runtime: string, service: string | undefined) => void;

export class NotebookBadges implements IDisposable {
  #runtime: Listed | null = null;
  #cells = new Map<Cell, ServiceCell>();
  #badges = new Map<Cell, HTMLButtonElement>();
  #inSight = new Set<Cell>();
  #plans: Plans;
  #runs = new Runs();
  #listening: DisposableSet | null = null;
  #sight: IntersectionObserver;
  #outputs: MutationObserver;
  #watched = new WeakSet<Element>();
  #versions = ""; // of the services: what was planned is of these
  #timer: ReturnType<typeof setTimeout> | undefined;
  #linking: ReturnType<typeof setTimeout> | undefined;
  #changed = new Signal<this, void>(this);
  #isDisposed = false;

  constructor(
    private readonly panel: NotebookPanel,
    private readonly services: Services,
    private readonly trans: TranslationBundle,
    private readonly open: OpenGraph,
  ) {
    this.#plans = new Plans(
      (cells) => this.#ask(cells),
      () => this.#later(),
    );
    this.#sight = new IntersectionObserver((entries) => this.#see(entries));
    this.#outputs = new MutationObserver(() => this.#linkLater());
    MessageLoop.installMessageHook(panel, this.#hook);
    panel.disposed.connect(() => this.dispose());
    if (panel.isVisible) this.#listen(); // Notebook has shown it before there are plugins
  }

  get isDisposed(): boolean {
    return this.#isDisposed;
  }

  /** Other cells have services, or other ones. */
  get changed(): ISignal<this, void> {
    return this.#changed;
  }

  /** The services of the active cell, and the process that runs them. */
  get active(): { runtime: Listed; services: string[] } | null {
    const found = this.panel.content.activeCell && this.#cells.get(this.panel.content.activeCell);
    const services = found?.services.filter(({ service }) => service !== null).map(({ name }) => name);
    return this.#runtime && services?.length ? { runtime: this.#runtime, services } : null;
  }

  dispose(): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    MessageLoop.removeMessageHook(this.panel, this.#hook);
    this.#ignore();
    for (const cell of [...this.#cells.keys()]) this.#clear(cell);
    Signal.clearData(this);
  }

  /** Go to a line of a cell: of the one that was run with this number. `line` counts from 1. */
  async goTo(count: number, line: number): Promise<void> {
    const { content } = this.panel;
    const found = this.#runs.find(count, line, this.#texts());
    const cell = found && content.widgets[found.index];
    if (!found || !cell) {
      const words = this.trans.__(
        "No cell of this notebook has the number In[%1]: it ran again since, or is gone.",
        count,
      );
      Notification.info(`nbcompose: ${words}`, { autoClose: 6000 });
      return;
    }
    content.deselectAll();
    content.activeCellIndex = found.index;
    cell.inputHidden = false;
    await content.scrollToItem(found.index, "smart");
    await cell.ready;
    const { editor } = cell;
    if (!editor) return;
    const at = { line: found.line, column: 0 };
    editor.setCursorPosition(at);
    editor.revealPosition(at);
    content.mode = "edit";
    editor.focus();
    // Where it is can be told when the page was laid out after scrolling.
    requestAnimationFrame(() => {
      const place = editor.getCoordinateForPosition(at);
      if (place) markLine(editor.host, place.top, place.bottom);
    });
  }

  // -- listening, while the notebook can be seen

  #hook = (_: IMessageHandler, message: Message): boolean => {
    if (message.type === "after-show") this.#listen();
    else if (message.type === "after-attach" && this.panel.isVisible) this.#listen();
    else if (message.type === "before-hide" || message.type === "before-detach") this.#ignore();
    return true;
  };

  #listen(): void {
    if (this.#listening || this.#isDisposed) return;
    const { panel, services } = this;
    const { content, sessionContext } = panel;
    const node = content.node;
    services.changed.connect(this.#later, this);
    sessionContext.kernelChanged.connect(this.#startAgain, this);
    sessionContext.statusChanged.connect(this.#heedStatus, this);
    sessionContext.iopubMessage.connect(this.#hear, this);
    content.modelContentChanged.connect(this.#later, this);
    content.activeCellChanged.connect(this.#emit, this);
    node.addEventListener("click", this.#click);
    window.addEventListener("keydown", this.#key, true); // before JupyterLab, which listens to the document
    document.addEventListener("visibilitychange", this.#turn);
    this.#listening = new DisposableSet();
    this.#listening.add(services.keep());
    this.#listening.add(
      new DisposableDelegate(() => {
        services.changed.disconnect(this.#later, this);
        sessionContext.kernelChanged.disconnect(this.#startAgain, this);
        sessionContext.statusChanged.disconnect(this.#heedStatus, this);
        sessionContext.iopubMessage.disconnect(this.#hear, this);
        content.modelContentChanged.disconnect(this.#later, this);
        content.activeCellChanged.disconnect(this.#emit, this);
        node.removeEventListener("click", this.#click);
        window.removeEventListener("keydown", this.#key, true);
        document.removeEventListener("visibilitychange", this.#turn);
        clearTimeout(this.#timer);
        clearTimeout(this.#linking);
        this.#timer = this.#linking = undefined;
        this.#plans.clear();
        this.#sight.disconnect();
        this.#outputs.disconnect();
        this.#inSight.clear();
        this.#watched = new WeakSet();
      }),
    );
    this.#askAgain();
    this.#later();
  }

  #ignore(): void {
    this.#listening?.dispose();
    this.#listening = null;
  }

  /** What is stale, and what text started a service, is not on the event bus. */
  #askAgain(): void {
    if (this.#runtime) this.services.note();
  }

  #startAgain(): void {
    this.#runs.clear();
    this.#plans.clear();
    this.#later();
  }

  #heedStatus(_: unknown, status: Kernel.Status): void {
    if (status === "restarting" || status === "autorestarting") this.#startAgain();
  }

  /** What any front end runs in this kernel. */
  #hear(_: unknown, { header, content, parent_header: parent }: KernelMessage.IMessage): void {
    if (header.msg_type === "execute_input") {
      const { code, execution_count: count } = content as KernelMessage.IExecuteInputMsg["content"];
      if (count !== null) this.#runs.note(count, code, this.#texts());
    } else if (header.msg_type === "status" && "msg_type" in parent && parent.msg_type === "execute_request") {
      if ((content as KernelMessage.IStatusMsg["content"]).execution_state !== "idle") return;
      this.#plans.forget();
      this.#askAgain();
    }
  }

  #turn = (): void => {
    if (document.hidden) this.#plans.want(new Map());
    else this.#later();
  };

  #click = (event: MouseEvent): void => {
    const place = clickedLine(event);
    if (!place) return;
    event.preventDefault();
    void this.goTo(place.count, place.line);
  };

  /** Enter and Space press a badge; all other keys are JupyterLab's: the focus stays there after a click. */
  #key = ({ target, key, ctrlKey, metaKey, altKey, shiftKey }: KeyboardEvent): void => {
    if (!(target instanceof Element && target.classList.contains(BADGE))) return;
    const presses = key === "Enter" || key === " ";
    target.toggleAttribute(OWN_KEYS, presses && !(ctrlKey || metaKey || altKey || shiftKey));
  };

  #see(entries: readonly IntersectionObserverEntry[]): void {
    for (const { target, isIntersecting } of entries) {
      const cell = [...this.#cells.keys()].find(({ node }) => node === target);
      if (cell && isIntersecting) this.#inSight.add(cell);
      else if (cell) this.#inSight.delete(cell);
    }
    this.#later();
  }

  async #ask(cells: { cell: string; text: string }[]): Promise<PlannedCell[]> {
    const runtime = this.#runtime;
    if (!runtime) return [];
    const reply = await this.services.request(runtime.id, { type: "plan", cells });
    return reply.type === "planned" ? reply.cells : [];
  }

  // -- showing

  #texts(): CellText[] {
    return this.panel.content.widgets.map(({ model }) => ({
      id: model.id,
      text: model.type === "code" ? model.sharedModel.getSource() : "",
      count: (model as { executionCount?: number | null }).executionCount ?? null,
    }));
  }

  #later(): void {
    if (!this.#listening) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#show();
    }, AFTER);
  }

  #linkLater(): void {
    this.#linking ??= setTimeout(() => {
      this.#linking = undefined;
      if (this.#runtime) this.#link();
    }, AFTER);
  }

  #emit(): void {
    this.#changed.emit();
  }

  #show(): void {
    if (this.#isDisposed) return;
    const kernel = this.panel.sessionContext.session?.kernel?.id;
    this.#runtime = this.services.runtimes.find(({ id, kind }) => kind === "kernel" && id === kernel) ?? null;
    const { services = [], stopped = [] } = this.#runtime ?? {};
    const ids = new Set([...services, ...stopped].map(({ cell }) => cell).filter(Boolean));
    const versions = JSON.stringify(
      services.map(({ name, serving, source, coming }) => [name, serving, source, !coming]),
    );
    if (this.#versions && this.#versions !== versions) this.#plans.forget();
    this.#versions = versions;
    const { widgets } = this.panel.content;
    const found = new Map<Cell, ServiceCell>();
    for (const cell of widgets) {
      const { id, type, sharedModel } = cell.model;
      if (type !== "code" || !ids.has(id)) continue;
      const here = serviceCell({ id, text: sharedModel.getSource() }, services, stopped);
      if (here) found.set(cell, here);
    }
    for (const cell of [...this.#cells.keys()]) if (!found.has(cell)) this.#clear(cell);
    const wanted = new Map<string, string>();
    for (const [cell, here] of found) {
      this.#sight.observe(cell.node); // again does nothing
      this.#cells.set(cell, here);
      if (here.wantsPlan && !cell.readOnly && this.#inSight.has(cell) && !document.hidden)
        wanted.set(cell.model.id, cell.model.sharedModel.getSource());
    }
    this.#plans.want(wanted);
    for (const [cell, here] of found) this.#draw(cell, here);
    if (this.#runtime) this.#linkLater();
    this.#emit();
  }

  #clear(cell: Cell): void {
    this.#sight.unobserve(cell.node);
    this.#inSight.delete(cell);
    this.#cells.delete(cell);
    this.#badges.get(cell)?.remove();
    this.#badges.delete(cell);
    delete cell.node.dataset.nbcState;
    delete cell.node.dataset.nbcPlan;
  }

  #draw(cell: Cell, here: ServiceCell): void {
    const { trans } = this;
    const runtime = this.#runtime;
    if (!runtime) return;
    const { id, sharedModel } = cell.model;
    const plan = here.wantsPlan && !cell.readOnly ? this.#plans.of(id, sharedModel.getSource()) : null;
    const will = planWords(plan, here, trans);
    cell.node.dataset.nbcState = here.state;
    if (plan?.length) cell.node.dataset.nbcPlan = [...new Set(plan.map(({ outcome }) => outcome))].join(" ");
    else delete cell.node.dataset.nbcPlan;
    const header = cell.node.querySelector(":scope > .jp-CellHeader");
    if (!header) {
      void cell.ready.then(() => this.#later()); // it has no parts yet
      return;
    }
    let badge = this.#badges.get(cell);
    if (!badge) {
      badge = document.createElement("button");
      badge.type = "button";
      badge.className = BADGE;
      badge.append(...["nbc-cell-badge-sign", "nbc-cell-badge-words", "nbc-cell-badge-plan"].map(span));
      badge.addEventListener("click", () => this.#press(cell));
      this.#badges.set(cell, badge);
    }
    if (badge.parentNode !== header) header.append(badge);
    const words = cellWords(here, trans);
    const [, said, told] = badge.children;
    write(said, words);
    write(told, will && `▶ ${will}`);
    const title = here.services.map(({ name, service, states }) =>
      service ? titleWords(runtime, service, trans) : `${name}: ${stateWords(states, trans)}`,
    );
    if (will) title.push(trans.__("▶ %1", will));
    badge.title = [...title, trans.__("Click: its graph")].join("\n");
    badge.setAttribute(
      "aria-label",
      [words, will && trans.__("to run this cell %1", will), trans.__("open the graph")].filter(Boolean).join("; "),
    );
  }

  #press(cell: Cell): void {
    const here = this.#cells.get(cell);
    if (this.#runtime && here) this.open(this.#runtime.id, worstService(here)?.name);
  }

  /** Errors lead to the lines that they name, also those that come later. */
  #link(): void {
    const title = this.trans.__("Go to this line");
    for (const cell of this.panel.content.widgets) {
      if (cell.model.type !== "code" || cell.isPlaceholder()) continue;
      const { outputArea } = cell as Cell & { outputArea: Outputs };
      if (!this.#watched.has(outputArea.node))
        this.#outputs.observe(outputArea.node, { childList: true, subtree: true });
      this.#watched.add(outputArea.node);
      outputArea.widgets.forEach(({ node }, i) => {
        const type = outputArea.model.get(i)?.type;
        // Jupyter appends to the text of a stream.
        if (type && type !== "stream") linkLines(node, type === "error" ? "pre" : OUR_ERRORS, title);
      });
    }
  }
}

function span(className: string): HTMLElement {
  const element = document.createElement("span");
  element.className = className;
  return element;
}

function write(element: Element | undefined, words: string): void {
  if (element && element.textContent !== words) element.textContent = words;
}
