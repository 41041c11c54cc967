// Graphs in the main area.

import { ILabShell, ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ICommandPalette, MainAreaWidget, WidgetTracker } from "@jupyterlab/apputils";
import { INotebookTracker } from "@jupyterlab/notebook";
import { ITranslator, nullTranslator } from "@jupyterlab/translation";
import { type GraphTarget, keyOf, lastingTarget, sameTarget, targetOf } from "./graphTarget.ts";
import { type GraphParts, GraphView } from "./graphView.ts";
import { graphIcon } from "./icons.ts";
import { Commands, INbcompose } from "./tokens.ts";

type Tab = MainAreaWidget<GraphView>;

interface Args {
  runtime?: string;
  path?: string;
  service?: string;
  isRestored?: boolean;
}

let made = 0;

function graphTab(parts: GraphParts, target: GraphTarget): Tab {
  const { trans, services } = parts;
  const content = new GraphView(parts);
  const tab = new MainAreaWidget({ content });
  made += 1;
  tab.id = `nbcompose-graph-${made}`; // not by its target, which changes when a notebook is renamed
  tab.addClass("nbc-graph-tab");
  tab.title.icon = graphIcon;
  tab.title.closable = true;
  content.node.setAttribute("role", "region");
  const name = (): void => {
    tab.title.label = trans.__("Graph of %1", content.targetName);
    tab.title.caption = content.target && "path" in content.target ? content.target.path : tab.title.label;
    content.node.setAttribute("aria-label", tab.title.label);
  };
  content.targetChanged.connect(name);
  services.changed.connect(name);
  tab.disposed.connect(() => services.changed.disconnect(name));
  content.target = target;
  return tab;
}

export const graphPlugin: JupyterFrontEndPlugin<void> = {
  id: "nbcompose:graph",
  description: "Shows graphs of services in the main area.",
  autoStart: true,
  requires: [INbcompose],
  optional: [INotebookTracker, ILabShell, ILayoutRestorer, ICommandPalette, ITranslator],
  activate(
    app: JupyterFrontEnd,
    services: INbcompose,
    notebooks: INotebookTracker | null,
    labShell: ILabShell | null,
    restorer: ILayoutRestorer | null,
    palette: ICommandPalette | null,
    translator: ITranslator | null,
  ): void {
    const trans = (translator ?? nullTranslator).load("nbcompose");
    const parts: GraphParts = { app, services, notebooks, trans };
    const tracker = new WidgetTracker<Tab>({ namespace: "nbcompose-graph" });

    /** What the arguments name, or else the notebook in front. */
    const meant = async (args: Args): Promise<GraphTarget> => {
      const named = targetOf(args);
      if (named && "runtime" in named && services.condition !== "live") await services.refresh();
      const path = notebooks?.currentWidget?.context.path;
      const target = named ?? (path ? { path } : null);
      if (!target) throw new Error(trans.__("No notebook is open, and no process was named."));
      return lastingTarget(target, services.runtimes);
    };

    const add = async (target: GraphTarget): Promise<Tab> => {
      const tab = graphTab(parts, target);
      const beside = tracker.currentWidget;
      // Notebook has room for one thing in its main area, and adds no other.
      if (!labShell) app.shell.add(tab, "down");
      else if (beside?.isAttached) labShell.add(tab, "main", { mode: "tab-after", ref: beside.id });
      else labShell.add(tab, "main", { mode: "split-right" });
      tab.content.targetChanged.connect(() => void tracker.save(tab));
      await tracker.add(tab);
      return tab;
    };

    app.commands.addCommand(Commands.openGraph, {
      label: trans.__("Open Graph of Services"),
      caption: trans.__("Open the live graph of a notebook's services, or of another process's"),
      icon: ({ isPalette }) => (isPalette ? undefined : graphIcon),
      describedBy: {
        args: {
          type: "object",
          properties: {
            runtime: {
              type: "string",
              description: trans.__("The id of the kernel, or serve-PID. Without it, the notebook in front."),
            },
            path: { type: "string", description: trans.__("The path of a notebook, in place of an id.") },
            service: { type: "string", description: trans.__("The name of the service to choose in it.") },
          },
        },
      },
      execute: async (given) => {
        const args = given as Args;
        const target = await meant(args);
        const tab = tracker.find(({ content }) => sameTarget(content.target, target)) ?? (await add(target));
        if (args.service) tab.content.find(args.service);
        if (!args.isRestored) app.shell.activateById(tab.id);
        return null;
      },
    });
    palette?.addItem({ command: Commands.openGraph, category: "nbcompose", args: { isPalette: true } });

    void restorer?.restore(tracker, {
      command: Commands.openGraph,
      args: ({ content }) => ({ ...content.target, isRestored: true }),
      name: ({ content }) => keyOf(content.target),
    });
  },
};
