// A new notebook with a small working graph, and a new cell.

export const LOAD = "%load_ext nbcompose";

const SPLITTER = `%%service
from nbcompose import api


class Splitter:
    """Splits texts into words."""

    @api
    def split(self, text: str) -> list[str]:
        return text.lower().split()`;

const COUNTER = `%%service
from collections import Counter

from nbcompose import api, depends


class Answer:
    """Says which words a text has most."""

    splitter = depends(Splitter)

    @api
    async def count(self, text: str, most: int = 3) -> dict[str, int]:
        words = await self.splitter.to_async.split(text)
        return dict(Counter(words).most_common(most))`;

const INTRODUCTION = `# A composed notebook

Each \`%%service\` cell is a class that runs as a server, in a process of its own. \`Answer\` calls \`Splitter\`; put your
models in their place. Run all cells, then edit one and run it again: the others go on.`;

/** Below this, a new service is written. */
export const SERVICE_CELL = `%%service
from nbcompose import api


class NewService:
    @api
    def call(self, text: str) -> str:
        return text`;

const CELLS: readonly [kind: "markdown" | "code", source: string][] = [
  ["markdown", INTRODUCTION],
  ["code", LOAD],
  ["code", SPLITTER],
  ["code", COUNTER],
  ["code", 'Answer.count("a rose is a rose is a rose")'],
  ["code", "%graph"],
];

export interface KernelSpec {
  name: string;
  display_name: string;
  language: string;
}

/** The notebook, as nbformat 4.5 has it. */
export function composedNotebook(kernel: KernelSpec | null): Record<string, unknown> {
  const cells = CELLS.map(([kind, source], i) => ({
    cell_type: kind,
    id: `composed-${i}`,
    metadata: {},
    source,
    ...(kind === "code" && { execution_count: null, outputs: [] }),
  }));
  return { cells, metadata: kernel ? { kernelspec: kernel } : {}, nbformat: 4, nbformat_minor: 5 };
}

/** What must stand above a new service in a notebook with these cells: the extension, where no cell loads it. */
export const missingAbove = (sources: string[]): string | null =>
  sources.some((text) => /^\s*%(load|reload)_ext\s+nbcompose\b/m.test(text)) ? null : LOAD;
