// The panel in the side bar at the right: the graph of the notebook in front, or of the one that is pinned.

import { ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ICommandPalette } from "@jupyterlab/apputils";
import { INotebookTracker } from "@jupyterlab/notebook";
import { IStateDB } from "@jupyterlab/statedb";
import { ITranslator, nullTranslator } from "@jupyterlab/translation";
import { launchIcon, ReactWidget, ToolbarButtonComponent } from "@jupyterlab/ui-components";
import { Panel } from "@lumino/widgets";
import { createElement, Fragment, type ReactElement } from "react";
import { targetOf } from "./graphTarget.ts";
import { type GraphParts, GraphView } from "./graphView.ts";
import { graphIcon, pinIcon } from "./icons.ts";
import { Commands, INbcompose } from "./tokens.ts";

const ID = "nbcompose:panel";
const WIDGET = "nbcompose-panel";

/** The panel of a page, which the user may have moved to the other side; undefined where its plugin is disabled. */
export function panelIn(shell: JupyterFrontEnd.IShell): GraphPanel | undefined {
  for (const area of ["right", "left"]) {
    for (const widget of shell.widgets(area)) if (widget instanceof GraphPanel) return widget;
  }
  return undefined;
}

/** The name of what is shown, and the buttons. */
class Head extends ReactWidget {
  constructor(private readonly panel: GraphPanel) {
    super();
    this.addClass("nbc-graph-head");
  }

  protected override render(): ReactElement {
    const { panel } = this;
    const { trans, app } = panel.parts;
    const name = panel.graph.targetName;
    const pin = createElement(ToolbarButtonComponent, {
      icon: pinIcon,
      pressed: panel.isPinned,
      enabled: Boolean(name),
      tooltip: trans.__("Stay with %1, whichever notebook is in front", name),
      pressedTooltip: trans.__("Pinned to %1: follow the notebook in front again", name),
      onClick: () => panel.pin(!panel.isPinned),
    });
    const tab = createElement(ToolbarButtonComponent, {
      icon: launchIcon,
      enabled: Boolean(name) && app.commands.hasCommand(Commands.openGraph),
      tooltip: trans.__("Open the graph as a tab"),
      onClick: () => void app.commands.execute(Commands.openGraph, { ...panel.graph.target }),
    });
    const title = createElement("span", { className: "nbc-graph-name", title: name }, name);
    return createElement(Fragment, null, title, pin, tab);
  }
}

export class GraphPanel extends Panel {
  readonly graph: GraphView;
  #head: Head;
  #isPinned = false;

  constructor(
    readonly parts: GraphParts,
    private readonly state: IStateDB | null,
  ) {
    super();
    const { trans, notebooks, services } = parts;
    this.id = WIDGET;
    this.addClass("nbc-graph-panel");
    this.title.icon = graphIcon;
    this.title.caption = trans.__("Graph of services");
    this.node.setAttribute("role", "region");
    this.node.setAttribute("aria-label", trans.__("Graph of services"));
    this.graph = new GraphView(parts);
    this.#head = new Head(this);
    this.addWidget(this.#head);
    this.addWidget(this.graph);
    this.graph.targetChanged.connect(() => {
      this.#head.update();
      if (this.#isPinned) this.#save();
    });
    services.changed.connect(() => this.#head.update()); // the names of processes come with the list
    notebooks?.currentChanged.connect(() => this.#follow());
    this.#follow();
  }

  get isPinned(): boolean {
    return this.#isPinned;
  }

  /** Stay with what is shown, or follow the notebook in front again. */
  pin(on: boolean): void {
    this.#isPinned = on;
    this.#save();
    this.#follow();
    this.#head.update();
  }

  /** Whether it shows the graph of a process, or would: it may be hidden. */
  has(runtime: string): boolean {
    return this.graph.listed?.id === runtime;
  }

  /** As it was before a reload. */
  async restore(): Promise<void> {
    const target = targetOf(await this.state?.fetch(ID).catch(() => undefined));
    if (!target) return;
    this.#isPinned = true;
    this.graph.target = target;
    this.#head.update();
  }

  #follow(): void {
    if (this.#isPinned) return;
    const path = this.parts.notebooks?.currentWidget?.context.path;
    this.graph.target = path ? { path } : null;
  }

  #save(): void {
    const { target } = this.graph;
    const saving = this.#isPinned && target ? this.state?.save(ID, { ...target }) : this.state?.remove(ID);
    saving?.catch((error: unknown) => console.warn(`nbcompose: the pin of the panel is not kept: ${error}`));
  }
}

export const panelPlugin: JupyterFrontEndPlugin<void> = {
  id: ID,
  description: "Shows the graph of the notebook in front, in the side bar.",
  autoStart: true,
  requires: [INbcompose],
  optional: [INotebookTracker, ILayoutRestorer, IStateDB, ICommandPalette, ITranslator],
  activate(
    app: JupyterFrontEnd,
    services: INbcompose,
    notebooks: INotebookTracker | null,
    restorer: ILayoutRestorer | null,
    state: IStateDB | null,
    palette: ICommandPalette | null,
    translator: ITranslator | null,
  ): void {
    if (!notebooks) return; // the first page of Notebook has none
    const trans = (translator ?? nullTranslator).load("nbcompose");
    const panel = new GraphPanel({ app, services, notebooks, trans }, state);
    app.shell.add(panel, "right", { rank: 600, type: "Service Graph" });
    restorer?.add(panel, WIDGET);
    void panel.restore();
    app.commands.addCommand(Commands.showPanel, {
      label: trans.__("Show Graph of Services"),
      caption: trans.__("Show the graph of the notebook in front, in the side bar"),
      describedBy: { args: { type: "object", properties: {} } },
      icon: ({ isPalette }) => (isPalette ? undefined : graphIcon),
      execute: () => app.shell.activateById(WIDGET),
    });
    palette?.addItem({ command: Commands.showPanel, category: "nbcompose", args: { isPalette: true } });
  },
};
