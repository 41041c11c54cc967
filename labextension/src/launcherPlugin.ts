// The card "New composed notebook" of the launcher.

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ILauncher } from "@jupyterlab/launcher";
import { ITranslator, nullTranslator } from "@jupyterlab/translation";
import { graphIconUrl } from "./icons.ts";
import { Commands } from "./tokens.ts";

export const launcherPlugin: JupyterFrontEndPlugin<void> = {
  id: "nbcompose:launcher",
  description: "Offers a new composed notebook in the launcher.",
  autoStart: true,
  optional: [ILauncher, ITranslator],
  activate(app: JupyterFrontEnd, launcher: ILauncher | null, translator: ITranslator | null): void {
    if (!launcher) return;
    const category = (translator ?? nullTranslator).load("jupyterlab").__("Notebook"); // the one that is there
    void app.started.then(() => {
      if (!app.commands.hasCommand(Commands.newNotebook)) return; // its plugin is disabled
      launcher.add({ command: Commands.newNotebook, category, rank: 10, kernelIconUrl: graphIconUrl });
    });
  },
};
