// Tells jupyterlab-lsp, where it is installed, what a cell of services is.

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { type OverridesManager, register } from "./lsp.ts";

export const lspPlugin: JupyterFrontEndPlugin<void> = {
  id: "nbcompose:lsp",
  description: "Has language servers see cells of services as Python, where jupyterlab-lsp is installed.",
  autoStart: true,
  activate(app: JupyterFrontEnd): void {
    // Not `optional`: a package that is shared and not there cannot be imported, and would take all plugins along.
    void import("@jupyter-lsp/jupyterlab-lsp").then(
      async ({ ILSPCodeOverridesManager }) => {
        const manager: OverridesManager | null = await app.resolveOptionalService(ILSPCodeOverridesManager);
        if (manager) register(manager);
      },
      () => undefined,
    );
  },
};
