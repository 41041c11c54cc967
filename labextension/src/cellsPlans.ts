// What a run of the edited cells would do: asked of the kernel's process when somebody may want to know.

import type { PlannedCell, PlannedService } from "./protocol.ts";

const AFTER = 400; // ms without an edit before the plan is asked for
const LONGEST = 1_000_000; // characters of a text that the protocol takes
const MOST = 1000; // cells of one request

export type CellTexts = ReadonlyMap<string, string>;

/**
 * The plans of cells, by their ids. A plan is of one text, and of the notebook as it was: with another text, or after
 * another cell has run, it is not told any more.
 */
export class Plans {
  #wanted: CellTexts = new Map();
  #known = new Map<string, { text: string; services: readonly PlannedService[] }>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #serial = 0; // of the notebook's values

  /**
   * @param ask - Sends the request.
   * @param changed - Called when there are other plans.
   */
  constructor(
    private readonly ask: (cells: { cell: string; text: string }[]) => Promise<PlannedCell[]>,
    private readonly changed: () => void,
  ) {}

  /** The cells whose plans are wanted now, with their texts. */
  want(cells: CellTexts): void {
    const isNew = [...cells].some(([id, text]) => this.#wanted.get(id) !== text && this.#known.get(id)?.text !== text);
    this.#wanted = cells;
    for (const id of [...this.#known.keys()]) if (!cells.has(id)) this.#known.delete(id);
    if (!cells.size) clearTimeout(this.#timer);
    else if (isNew) this.#later();
  }

  /** What is known of a cell with this text. */
  of(id: string, text: string): readonly PlannedService[] | null {
    const known = this.#known.get(id);
    return known?.text === text ? known.services : null;
  }

  /** A cell has run: what was told may not hold any more. */
  forget(): void {
    this.#serial += 1;
    if (!this.#wanted.size) return;
    const had = this.#known.size > 0;
    this.#known.clear();
    this.#later();
    if (had) this.changed();
  }

  /** Want nothing, and know nothing. */
  clear(): void {
    this.#serial += 1;
    this.#wanted = new Map();
    this.#known.clear();
    clearTimeout(this.#timer);
  }

  #later(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#request(), AFTER);
  }

  async #request(): Promise<void> {
    const serial = this.#serial;
    const asked = [...this.#wanted].filter(([id, text]) => text.length <= LONGEST && this.of(id, text) === null);
    if (!asked.length) return;
    const cells = asked.slice(0, MOST).map(([cell, text]) => ({ cell, text }));
    let planned: PlannedCell[];
    try {
      planned = await this.ask(cells);
    } catch {
      return; // it has ended, or its nbcompose knows no plans: nothing is told
    }
    if (serial !== this.#serial) return; // it is asked again
    const texts = new Map(asked);
    for (const { cell, services } of planned) {
      const text = texts.get(cell);
      if (text !== undefined && this.#wanted.has(cell)) this.#known.set(cell, { text, services });
    }
    this.changed();
  }
}
