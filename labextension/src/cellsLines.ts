// Lines of cells that texts refer to, as IPython names them: `Cell In[3], line 5`.

import type { CellText } from "./cellsState.ts";

/** A place in a text that names a line; `start` and `end` are those of its words. */
export interface Reference {
  start: number;
  end: number;
  count: number;
  line: number;
}

export interface Line {
  /** The cell's place in the notebook. */
  index: number;
  /** From 0. */
  line: number;
}

export function references(text: string): Reference[] {
  return [...text.matchAll(/\bCell In\s?\[(\d+)\], line (\d+)/g)].map((match) => ({
    start: match.index,
    end: match.index + match[0].length,
    count: Number(match[1]),
    line: Number(match[2]),
  }));
}

const MOST = 1000; // runs that are remembered

/** Which cell was run with which number, and what it said then. */
export class Runs {
  #known = new Map<number, { id: string; lines: string[] }>();

  /** A cell begins to run. */
  note(count: number, code: string, cells: readonly CellText[]): void {
    const same = cells.filter((cell) => cell.text === code);
    const cell = same.find((c) => c.count === null) ?? same[0]; // one that runs has no number yet
    if (!cell) return;
    this.#known.set(count, { id: cell.id, lines: code.split("\n") });
    for (const oldest of this.#known.keys()) {
      if (this.#known.size <= MOST) break;
      this.#known.delete(oldest);
    }
  }

  /** The numbers begin anew. */
  clear(): void {
    this.#known.clear();
  }

  /**
   * Where a line is now. `line` counts from 1. Null where no cell is known that was run with this number; a cell that
   * was edited since has the nearest line of the same text, if it has one.
   */
  find(count: number, line: number, cells: readonly CellText[]): Line | null {
    const run = this.#known.get(count);
    let index = run ? cells.findIndex((cell) => cell.id === run.id) : -1;
    if (index < 0) index = cells.findLastIndex((cell) => cell.count === count);
    const lines = cells[index]?.text.split("\n");
    if (!lines) return null;
    const at = Math.min(Math.max(line, 1), Math.max(lines.length, run?.lines.length ?? 0)) - 1;
    const text = run?.lines[at];
    if (text === undefined || lines[at] === text) return { index, line: Math.min(at, lines.length - 1) };
    const same = lines.flatMap((other, i) => (other === text ? [i] : []));
    const nearest = same.sort((a, b) => Math.abs(a - at) - Math.abs(b - at))[0];
    return { index, line: nearest ?? Math.min(at, lines.length - 1) };
  }
}
