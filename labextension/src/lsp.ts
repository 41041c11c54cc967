// What a language server is shown of a cell of services: the Python that it is, below a comment. Otherwise jupyterlab-lsp
// makes one string of the cell, and nothing that it defines is known in other cells.

/** As jupyterlab-lsp has it: text that `pattern` matches is replaced before a language server sees it, and put back. */
export interface Override {
  scope: "cell" | "line";
  pattern: string;
  replacement: string;
  reverse?: Override;
}

/** What jupyterlab-lsp provides to other extensions. */
export interface OverridesManager {
  readonly registry: Record<string, { cell: Override[]; line: Override[] }>;
  register(override: Override, language: string): void;
}

const SHOWN = "# nbcompose "; // pycodestyle wants a blank after # (E265)

/** Lines keep their numbers, by which diagnostics find their places. */
export const SERVICE_CELL: Override = {
  scope: "cell",
  pattern: "^(%%service(?=\\s|$))",
  replacement: `${SHOWN}$1`,
  reverse: { scope: "cell", pattern: `^${SHOWN}(%%service(?=\\s|$))`, replacement: "$1" },
};

/** Have it looked at before what is registered already, which takes all cell magics alike. */
export function register(manager: OverridesManager): void {
  manager.register(SERVICE_CELL, "python");
  const cells = manager.registry.python?.cell;
  if (cells?.at(-1) !== SERVICE_CELL) return;
  cells.pop();
  cells.unshift(SERVICE_CELL);
}
