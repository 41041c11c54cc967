// Completion in cells of services while their kernel computes: it completes by itself as soon as it can be asked.

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import {
  type CompletionHandler,
  type ICompletionContext,
  type ICompletionProvider,
  ICompletionProviderManager,
} from "@jupyterlab/completer";
import { offers } from "./completion.ts";
import type { Services } from "./services.ts";
import { INbcompose } from "./tokens.ts";

class ServicesCompletion implements ICompletionProvider {
  readonly identifier = "nbcompose:completion";
  readonly rank = 540; // after the kernel's, which knows more
  readonly renderer = null;

  constructor(private readonly services: Services) {}

  async isApplicable({ session }: ICompletionContext): Promise<boolean> {
    const kernel = session?.kernel;
    return Boolean(kernel) && kernel?.status !== "idle";
  }

  async fetch(
    { text, offset }: CompletionHandler.IRequest,
    { session }: ICompletionContext,
  ): Promise<CompletionHandler.ICompletionItemsReply> {
    const before = [...text].slice(0, offset).join(""); // offsets count characters, and not units of two bytes
    const found = offers(text, before, await this.#runtime(session?.kernel?.id, text));
    if (!found) return { start: offset, end: offset, items: [] };
    const items = found.items.map(({ label, type }) => ({ label, type, insertText: label }));
    return { start: offset - [...found.typed].length, end: offset, items };
  }

  /** The kernel, as the server lists it. */
  async #runtime(kernel: string | undefined, text: string) {
    if (this.services.condition !== "live" && /\bdepends\(/.test(text)) await this.services.refresh();
    return this.services.runtimes.find(({ id }) => id === kernel);
  }
}

export const completionPlugin: JupyterFrontEndPlugin<void> = {
  id: "nbcompose:completion",
  description: "Completes names, apis and options in cells of services while their kernel is busy.",
  autoStart: true,
  requires: [INbcompose],
  optional: [ICompletionProviderManager],
  activate(_app: JupyterFrontEnd, services: INbcompose, manager: ICompletionProviderManager | null): void {
    manager?.registerProvider(new ServicesCompletion(services));
  },
};
