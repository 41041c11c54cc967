// jupyterlab-lsp is no dependency: it is used where a user has it.

declare module "@jupyter-lsp/jupyterlab-lsp" {
  import type { Token } from "@lumino/coreutils";
  import type { OverridesManager } from "./lsp.ts";

  export const ILSPCodeOverridesManager: Token<OverridesManager>;
}
