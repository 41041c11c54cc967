// Completes the link on the card of a service, "open", while the notebook's kernel runs that service.

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { INotebookTracker, type NotebookPanel } from "@jupyterlab/notebook";
import { ITranslator, nullTranslator, type TranslationBundle } from "@jupyterlab/translation";
import type { IDisposable } from "@lumino/disposable";
import { Signal } from "@lumino/signaling";
import { CARD_LINK, pageOf } from "./cardLinks.ts";
import type { Services } from "./services.ts";
import { INbcompose } from "./tokens.ts";

const isCard = (node: Node): boolean =>
  node instanceof Element && (node.matches(CARD_LINK) || node.querySelector(CARD_LINK) !== null);

/** The cards of one notebook. The list of services is kept current from the first card on. */
class NotebookCards {
  #observer: MutationObserver;
  #keep: IDisposable | null = null;

  constructor(
    private readonly panel: NotebookPanel,
    private readonly services: Services,
    private readonly trans: TranslationBundle,
  ) {
    const { node } = panel.content;
    this.#observer = new MutationObserver((records) => {
      if (records.some(({ addedNodes }) => [...addedNodes].some(isCard))) this.#update();
    });
    this.#observer.observe(node, { childList: true, subtree: true });
    services.changed.connect(this.#update, this);
    panel.sessionContext.kernelChanged.connect(this.#update, this);
    panel.disposed.connect(this.#dispose, this);
    if (isCard(node)) this.#update();
  }

  #update(): void {
    const links = this.panel.content.node.querySelectorAll<HTMLAnchorElement>(CARD_LINK);
    if (!links.length) return;
    this.#keep ??= this.services.keep();
    const kernel = this.panel.sessionContext.session?.kernel?.id;
    const runtime = this.services.runtimes.find(({ id }) => id === kernel);
    for (const link of links) this.#complete(link, pageOf(link.dataset.nbcAt ?? "", runtime));
  }

  #complete(link: HTMLAnchorElement, page: string): void {
    if ((link.getAttribute("href") ?? "") === page) return;
    link.textContent = page && this.trans.__("open");
    if (!page) {
      link.removeAttribute("href");
      return;
    }
    link.className = "nbc-card-link";
    link.target = "_blank";
    link.rel = "noopener";
    link.title = this.trans.__("Open the page of this service, where its apis can be called");
    link.href = page;
  }

  #dispose(): void {
    this.#observer.disconnect();
    this.#keep?.dispose();
    Signal.clearData(this);
  }
}

export const cardsPlugin: JupyterFrontEndPlugin<void> = {
  id: "nbcompose:cards",
  description: "Links the cards of services to their pages, through Jupyter's server.",
  autoStart: true,
  requires: [INbcompose],
  optional: [INotebookTracker, ITranslator],
  activate(
    _app: JupyterFrontEnd,
    services: INbcompose,
    notebooks: INotebookTracker | null,
    translator: ITranslator | null,
  ): void {
    const trans = (translator ?? nullTranslator).load("nbcompose");
    const add = (panel: NotebookPanel) => new NotebookCards(panel, services, trans);
    notebooks?.forEach(add);
    notebooks?.widgetAdded.connect((_, panel) => add(panel));
  },
};
