// Commands: in the palette, in the menu of a service in the panel of what runs, and for programs and agents.

import { ILabShell, type JupyterFrontEnd, type JupyterFrontEndPlugin } from "@jupyterlab/application";
import { Dialog, ICommandPalette, InputDialog, MainAreaWidget, Notification, showDialog } from "@jupyterlab/apputils";
import { PathExt } from "@jupyterlab/coreutils";
import { IDefaultFileBrowser } from "@jupyterlab/filebrowser";
import { INotebookTracker, NotebookActions } from "@jupyterlab/notebook";
import { ITranslator, nullTranslator, type TranslationBundle } from "@jupyterlab/translation";
import { addIcon, type LabIcon, stopIcon } from "@jupyterlab/ui-components";
import type { ReadonlyJSONObject } from "@lumino/coreutils";
import { toClipboard } from "../../nbcompose/_notebook/graph/static/src/copying.js";
import { curl } from "./commandLine.ts";
import { GraphView } from "./graphView.ts";
import { graphIcon } from "./icons.ts";
import { LogView } from "./logView.ts";
import { panelIn } from "./panelPlugin.ts";
import type { RuntimeReply } from "./protocol.ts";
import { type Named, Steering, type Target } from "./steering.ts";
import { composedNotebook, type KernelSpec, missingAbove, SERVICE_CELL } from "./template.ts";
import { Commands, INbcompose } from "./tokens.ts";

/** Where the panel of what runs is: in JupyterLab, and on the first page of Notebook. */
const RUNNING = ["jp-running-sessions", "jp-running-sessions-tree"];
const SERVICE_ITEM = "nbc-running-service";

type Properties = Record<string, ReadonlyJSONObject>;

interface Args extends Named {
  api?: string;
  replicas?: number;
  ask?: boolean;
  cwd?: string;
  isPalette?: boolean;
  isLauncher?: boolean;
}

interface Parts {
  app: JupyterFrontEnd;
  services: INbcompose;
  trans: TranslationBundle;
  labShell: ILabShell | null;
  notebooks: INotebookTracker | null;
  files: IDefaultFileBrowser | null;
}

interface Command {
  id: string;
  label: string;
  caption: string;
  properties: Properties;
  icon?: LabIcon;
  isEnabled?: () => boolean;
  execute(args: Args): Promise<unknown>;
}

const described = (properties: Properties) => ({ args: { type: "object", properties } });

/** What commands share: how a service is named, and found. */
function sharedParts({ app, services, trans, notebooks }: Parts) {
  const steering = new Steering(services, trans);
  const path = () => notebooks?.currentWidget?.context.path ?? "";
  const which: Properties = {
    service: {
      type: "string",
      description: trans.__("The name of the service. Without it, the user is asked."),
    },
    runtime: {
      type: "string",
      description: trans.__("The id of the kernel, or serve-PID, where several have a service of that name."),
    },
  };
  const ask: Properties = {
    ask: { type: "boolean", default: true, description: trans.__("Whether the user is asked first.") },
  };

  /** The item whose menu is open, where the arguments name no service. */
  const named = (args: Args): Named => {
    if (args.service || args.isPalette) return args;
    const item = app.contextMenuHitTest((node) => node.classList.contains(SERVICE_ITEM));
    return item?.dataset.context ? (JSON.parse(item.dataset.context) as Named) : args;
  };

  /** Do something with the service that is meant; what fails is told, and thrown for programs. */
  const withTarget = async <T>(args: Args, title: string, then: (target: Target) => Promise<T>): Promise<T | null> => {
    const doing = (async () => {
      const target = await steering.target(named(args), path(), title);
      return target ? then(target) : null;
    })();
    await steering.tell(doing);
    return doing;
  };
  return { steering, which, ask, withTarget };
}

type Shared = ReturnType<typeof sharedParts>;

/** Commands that change a service. */
function steeringCommands({ trans }: Parts, { steering, which, ask, withTarget }: Shared): Command[] {
  const confirmed = async (args: Args, title: string, body: string, yes: string): Promise<boolean> =>
    args.ask === false || steering.sure(title, body, yes);
  return [
    {
      id: Commands.restart,
      label: trans.__("Restart Service…"),
      caption: trans.__("Start new replicas, which take over from those that run"),
      properties: { ...which, ...ask },
      execute: (args) =>
        withTarget(args, trans.__("Restart a service"), async (target) => {
          const { name } = target.service;
          const body = trans.__("New replicas take over from those that run.");
          if (!(await confirmed(args, trans.__("Restart %1?", name), body, trans.__("Restart")))) return null;
          return steering.ask(target, { type: "restart", service: name });
        }),
    },
    {
      id: Commands.stop,
      label: trans.__("Stop Service…"),
      caption: trans.__("Stop a service, after saying which others need it"),
      icon: stopIcon,
      properties: { ...which, ...ask },
      execute: (args) =>
        withTarget(args, trans.__("Stop a service"), (target) => steering.stop(target, args.ask !== false)),
    },
    {
      id: Commands.rollBack,
      label: trans.__("Roll Service Back…"),
      caption: trans.__("Return to the version before"),
      properties: { ...which, ...ask },
      execute: (args) =>
        withTarget(args, trans.__("Roll a service back"), async (target): Promise<RuntimeReply | null> => {
          const { name, reversible } = target.service;
          if (!reversible) throw new Error(trans.__("%1 has no version before this one.", name));
          const body = trans.__("The version before serves again.");
          if (!(await confirmed(args, trans.__("Roll %1 back?", name), body, trans.__("Roll Back")))) return null;
          return steering.ask(target, { type: "rollback", service: name });
        }),
    },
    {
      id: Commands.scale,
      label: trans.__("Scale Service…"),
      caption: trans.__("Change how many replicas a service has"),
      properties: {
        ...which,
        replicas: {
          type: "integer",
          minimum: 1,
          description: trans.__("How many replicas. Without it, the user is asked."),
        },
      },
      execute: (args) =>
        withTarget(args, trans.__("Scale a service"), async (target) => {
          const { name, wanted } = target.service;
          let { replicas } = args;
          if (replicas === undefined) {
            const title = trans.__("Scale %1", name);
            const given = await InputDialog.getNumber({ title, label: trans.__("Replicas"), value: wanted });
            if (!given.button.accept || given.value === null) return null;
            replicas = given.value;
          }
          if (!Number.isInteger(replicas) || replicas < 1) {
            throw new Error(trans.__("A service has one replica or more, and a whole number; not %1.", replicas));
          }
          return steering.ask(target, { type: "scale", service: name, replicas });
        }),
    },
  ];
}

/** Commands that tell something of a service. */
function tellingCommands(parts: Parts, { which, steering, withTarget }: Shared): Command[] {
  const { app, services, trans, labShell } = parts;
  const { serverSettings } = app.serviceManager;
  const address = ({ service }: Target): string => {
    if (!service.link) throw new Error(trans.__("%1 does not answer over HTTP.", service.name));
    return new URL(service.link, serverSettings.baseUrl).href;
  };
  const copied = async (text: string, words: string): Promise<string> => {
    await toClipboard(text);
    Notification.info(words, { autoClose: 4000 });
    return text;
  };
  return [
    {
      id: Commands.logs,
      label: trans.__("Show Logs of Service…"),
      caption: trans.__("Show what a service has written, as it writes it"),
      properties: which,
      execute: (args) => withTarget(args, trans.__("Show logs"), (target) => showLogs(target)),
    },
    {
      id: Commands.copyUrl,
      label: trans.__("Copy Address of Service…"),
      caption: trans.__("Copy the address of a service through Jupyter"),
      properties: which,
      execute: (args) =>
        withTarget(args, trans.__("Copy an address"), (target) =>
          copied(
            address(target),
            trans.__("Copied the address of %1: it asks for a login to Jupyter.", target.service.name),
          ),
        ),
    },
    {
      id: Commands.copyCurl,
      label: trans.__("Copy Call of Service as curl…"),
      caption: trans.__("Copy a call of a service through Jupyter, for a terminal"),
      properties: {
        ...which,
        api: { type: "string", description: trans.__("The api to call. Without it, the first one.") },
      },
      execute: (args) =>
        withTarget(args, trans.__("Copy a call"), async (target) => {
          const { name, apis } = target.service;
          const api = args.api ?? apis[0]?.name;
          if (!api) throw new Error(trans.__("%1 has no api.", name));
          const form = await steering.ask(target, { type: "form", service: name, api });
          if (form.type !== "form") throw new Error(trans.__("The arguments of %1 are not known.", `${name}.${api}`));
          const words = trans.__(
            "Copied a call of %1. In the terminal, JUPYTER_TOKEN is a token of this server.",
            `${name}.${api}`,
          );
          return copied(curl(address(target), api, form.schema), words);
        }),
    },
    {
      id: Commands.showService,
      label: trans.__("Show Service in the Graph…"),
      caption: trans.__("Choose a service in the graph at the side; in a tab where the side shows another graph"),
      properties: which,
      execute: (args) => withTarget(args, trans.__("Show a service"), (target) => showService(target)),
    },
    {
      id: Commands.showRunning,
      label: trans.__("Show Running Services"),
      caption: trans.__("Show the panel of what runs"),
      properties: {},
      execute: async () => {
        for (const id of RUNNING) app.shell.activateById(id);
      },
    },
  ];

  /**
   * Where its graph can be seen: in the panel, or in a tab that the user has opened. Else in the panel, which is opened;
   * a tab is made only where the panel is missing, or shows the graph of another process.
   */
  async function showService({ runtime, service }: Target): Promise<null> {
    const panel = panelIn(app.shell);
    const tab = ["main", "down"]
      .flatMap((area) => [...app.shell.widgets(area)])
      .find((w) => w.isVisible && w instanceof MainAreaWidget && ofRuntime(w.content, runtime.id));
    if (panel?.has(runtime.id) && (panel.isVisible || !tab)) {
      panel.graph.find(service.name);
      app.shell.activateById(panel.id);
    } else if (app.commands.hasCommand(Commands.openGraph)) {
      await app.commands.execute(Commands.openGraph, { runtime: runtime.id, service: service.name });
    } else
      throw new Error(trans.__("The graph of this process cannot be shown: the plugin nbcompose:graph is disabled."));
    return null;
  }

  /** In the main area; where there is none, in a dialog. */
  async function showLogs(target: Target): Promise<null> {
    const view = new LogView(services, target, trans);
    if (!labShell) {
      await showDialog({
        title: view.title.label,
        body: view,
        buttons: [Dialog.okButton({ label: trans.__("Close") })],
      });
      return null;
    }
    const open = [...labShell.widgets("main")].find((widget) => widget.id === `${view.id}-main`);
    if (open) {
      view.dispose();
      labShell.activateById(open.id);
      return null;
    }
    const widget = new MainAreaWidget({ content: view });
    widget.id = `${view.id}-main`;
    labShell.add(widget, "main", { mode: "split-bottom" });
    labShell.activateById(widget.id);
    return null;
  }
}

/** Commands that write notebooks. */
function writingCommands({ app, trans, notebooks, files }: Parts, { steering }: Shared): Command[] {
  const { contents, kernelspecs } = app.serviceManager;
  return [
    {
      id: Commands.newCell,
      label: trans.__("New Service Cell"),
      caption: trans.__("Add a cell with a new service below the one that is active"),
      icon: addIcon,
      properties: {},
      isEnabled: () => Boolean(notebooks?.currentWidget),
      execute: async () => {
        const content = notebooks?.currentWidget?.content;
        if (!content?.model) throw new Error(trans.__("No notebook is open."));
        const cells = [...content.model.cells].filter((cell) => cell.type === "code");
        const above = missingAbove(cells.map((cell) => cell.sharedModel.getSource()));
        for (const source of [above, SERVICE_CELL]) {
          if (source === null) continue;
          NotebookActions.insertBelow(content);
          content.activeCell?.model.sharedModel.setSource(source);
        }
        content.mode = "edit";
        return null;
      },
    },
    {
      id: Commands.newNotebook,
      label: trans.__("New Composed Notebook"),
      caption: trans.__("Create a notebook with a small graph of services that works"),
      icon: graphIcon,
      properties: { cwd: { type: "string", description: trans.__("The folder of the notebook.") } },
      execute: async (args) => {
        const current = notebooks?.currentWidget?.context.path;
        const folder = args.cwd ?? files?.model.path ?? (current ? PathExt.dirname(current) : "");
        const doing = create(folder);
        await steering.tell(doing);
        return doing;
      },
    },
  ];

  async function create(folder: string): Promise<string> {
    await kernelspecs.ready;
    const kernel = pythonKernel();
    const { path } = await contents.newUntitled({ path: folder, type: "notebook" });
    await contents.save(path, { type: "notebook", format: "json", content: composedNotebook(kernel) });
    await app.commands.execute("docmanager:open", {
      path,
      factory: "Notebook",
      ...(kernel && { kernel: { name: kernel.name } }),
    });
    return path;
  }

  /** The default kernel where it is one of Python, or else the first that is. */
  function pythonKernel(): KernelSpec | null {
    const specs = kernelspecs.specs?.kernelspecs ?? {};
    const first = specs[kernelspecs.specs?.default ?? ""];
    const spec = [first, ...Object.values(specs)].find((s) => s?.language === "python");
    return spec ? { name: spec.name, display_name: spec.display_name, language: spec.language } : null;
  }
}

const ofRuntime = (content: unknown, runtime: string): boolean =>
  content instanceof GraphView && content.listed?.id === runtime;

export const commandsPlugin: JupyterFrontEndPlugin<void> = {
  id: "nbcompose:commands",
  description: "Commands for the services of nbcompose.",
  autoStart: true,
  requires: [INbcompose],
  optional: [ICommandPalette, ILabShell, INotebookTracker, IDefaultFileBrowser, ITranslator],
  activate(
    app: JupyterFrontEnd,
    services: INbcompose,
    palette: ICommandPalette | null,
    labShell: ILabShell | null,
    notebooks: INotebookTracker | null,
    files: IDefaultFileBrowser | null,
    translator: ITranslator | null,
  ): void {
    const trans = (translator ?? nullTranslator).load("nbcompose");
    const parts = { app, services, trans, labShell, notebooks, files };
    const shared = sharedParts(parts);
    const makers = [steeringCommands, tellingCommands, writingCommands];
    for (const command of makers.flatMap((make) => make(parts, shared))) {
      const { id, label, caption, icon, properties, isEnabled, execute } = command;
      app.commands.addCommand(id, {
        label,
        caption,
        describedBy: described(properties),
        icon: ({ isPalette }) => (isPalette ? undefined : icon),
        ...(isEnabled && { isEnabled }),
        execute: (args) => execute(args as Args),
      });
      palette?.addItem({ command: id, category: "nbcompose", args: { isPalette: true } });
    }
    notebooks?.currentChanged.connect(() => app.commands.notifyCommandChanged(Commands.newCell));
  },
};
