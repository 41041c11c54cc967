// The services at their cells: states, badges, what a run will do, and buttons of the cell's toolbar.

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { InputDialog } from "@jupyterlab/apputils";
import { INotebookTracker, type NotebookPanel } from "@jupyterlab/notebook";
import { ITranslator, nullTranslator, type TranslationBundle } from "@jupyterlab/translation";
import { type LabIcon, listIcon, refreshIcon, stopIcon } from "@jupyterlab/ui-components";
import { NotebookBadges } from "./badges.ts";
import { graphIcon } from "./icons.ts";
import { CellCommands, Commands, INbcompose } from "./tokens.ts";

interface CellCommand {
  id: string;
  /** What is done with the service. */
  command: string;
  label: string;
  caption: string;
  icon: LabIcon;
}

const cellCommands = (trans: TranslationBundle): CellCommand[] => [
  {
    id: CellCommands.restart,
    command: Commands.restart,
    label: trans.__("Restart the Cell's Service…"),
    caption: trans.__("Restart the service of this cell"),
    icon: refreshIcon,
  },
  {
    id: CellCommands.stop,
    command: Commands.stop,
    label: trans.__("Stop the Cell's Service…"),
    caption: trans.__("Stop the service of this cell"),
    icon: stopIcon,
  },
  {
    id: CellCommands.logs,
    command: Commands.logs,
    label: trans.__("Show Logs of the Cell's Service"),
    caption: trans.__("Logs of the service of this cell"),
    icon: listIcon,
  },
  {
    id: CellCommands.graph,
    command: Commands.showService,
    label: trans.__("Show the Cell's Service in the Graph"),
    caption: trans.__("Graph of the service of this cell"),
    icon: graphIcon,
  },
];

export const cellsPlugin: JupyterFrontEndPlugin<void> = {
  id: "nbcompose:cells",
  description: "Shows at the cells of a notebook how their services are, and what a run will do with them.",
  autoStart: true,
  requires: [INbcompose],
  optional: [INotebookTracker, ITranslator],
  activate(
    app: JupyterFrontEnd,
    services: INbcompose,
    notebooks: INotebookTracker | null,
    translator: ITranslator | null,
  ): void {
    if (!notebooks) return;
    const trans = (translator ?? nullTranslator).load("nbcompose");
    const { commands } = app;
    const all = new Map<NotebookPanel, NotebookBadges>();

    // A service that was stopped is in no graph; and plugins that show one may be disabled: what runs is shown then.
    const open = (runtime: string, service: string | undefined): void => {
      const graph = service ? [Commands.showService, Commands.openGraph] : [Commands.showPanel, Commands.openGraph];
      const command = [...graph, Commands.showRunning].find((id) => commands.hasCommand(id));
      if (command) void commands.execute(command, { runtime, ...(service && { service }) });
    };
    const ofCurrent = () => (notebooks.currentWidget ? (all.get(notebooks.currentWidget) ?? null) : null);
    const notify = () => {
      for (const id of Object.values(CellCommands)) commands.notifyCommandChanged(id);
    };
    const add = (panel: NotebookPanel): void => {
      if (all.has(panel)) return;
      const badges = new NotebookBadges(panel, services, trans, open);
      all.set(panel, badges);
      badges.changed.connect(notify);
      panel.disposed.connect(() => all.delete(panel));
    };
    notebooks.widgetAdded.connect((_, panel) => add(panel));
    notebooks.currentChanged.connect(notify);
    notebooks.forEach(add); // Notebook has opened its own already

    for (const { id, command, label, caption, icon } of cellCommands(trans)) {
      commands.addCommand(id, {
        label,
        caption,
        icon,
        describedBy: { args: { type: "object", properties: {} } },
        isVisible: () => commands.hasCommand(command) && ofCurrent()?.active != null,
        isEnabled: () => ofCurrent()?.active != null,
        execute: async () => {
          const active = ofCurrent()?.active;
          if (!active) throw new Error(trans.__("The active cell has no service."));
          const service = await chosen(active.services, caption);
          return service === null ? null : commands.execute(command, { runtime: active.runtime.id, service });
        },
      });
    }
    commands.addCommand(CellCommands.line, {
      label: trans.__("Go to a Line of a Cell…"),
      caption: trans.__("Go to the line that an error names, such as Cell In[3], line 5"),
      describedBy: {
        args: {
          type: "object",
          required: ["count", "line"],
          properties: {
            count: { type: "integer", description: trans.__("The number of the cell's run: 3 of In[3].") },
            line: { type: "integer", minimum: 1, description: trans.__("The number of the line, from 1.") },
          },
        },
      },
      isEnabled: () => ofCurrent() !== null,
      execute: async (args) => {
        const { count, line } = args;
        if (!Number.isInteger(count) || !Number.isInteger(line)) {
          throw new Error(trans.__("count and line are whole numbers: 3 and 5 of Cell In[3], line 5."));
        }
        await ofCurrent()?.goTo(count as number, line as number);
      },
    });

    /** One of a cell's services: the user is asked where it has several. */
    async function chosen(names: string[], title: string): Promise<string | null> {
      if (names.length === 1) return names[0] ?? null;
      const { button, value } = await InputDialog.getItem({ title, label: trans.__("Service"), items: names });
      return button.accept ? value : null;
    }
  },
};
