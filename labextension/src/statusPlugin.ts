// The item of the status bar: how many services the notebook in front runs, and whether all is well with them. Those of
// other processes are in its tooltip; where the notebook runs none, it says how many others there are.

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import type { ISessionContext } from "@jupyterlab/apputils";
import { INotebookTracker } from "@jupyterlab/notebook";
import { ISettingRegistry } from "@jupyterlab/settingregistry";
import { IStatusBar, TextItem } from "@jupyterlab/statusbar";
import { ITranslator, nullTranslator, type TranslationBundle } from "@jupyterlab/translation";
import { VDomModel, VDomRenderer } from "@jupyterlab/ui-components";
import type { IDisposable } from "@lumino/disposable";
import { Signal } from "@lumino/signaling";
import { createElement, Fragment, type ReactElement } from "react";
import { runtimeOf } from "./graphTarget.ts";
import type { Listed } from "./protocol.ts";
import type { Services } from "./services.ts";
import { Commands, INbcompose } from "./tokens.ts";
import { statusWords, sumOf } from "./words.ts";

const ID = "nbcompose:status";

class StatusModel extends VDomModel {
  readonly activeChanged = new Signal<this, void>(this);
  #isShown = true;
  #context: ISessionContext | null = null;
  #keep: IDisposable | null = null;

  constructor(
    readonly services: Services,
    private readonly notebooks: INotebookTracker | null,
  ) {
    super();
    services.changed.connect(this.#update, this);
    notebooks?.currentChanged.connect(this.#follow, this);
    this.#follow();
  }

  /** The process of the notebook in front. */
  get here(): Listed | undefined {
    const context = this.notebooks?.currentWidget?.context;
    if (!context) return undefined;
    return runtimeOf({ path: context.path }, context.sessionContext.session?.kernel?.id ?? "", this.services.runtimes);
  }

  /** Whether the user's settings have it. */
  set isShown(shown: boolean) {
    this.#isShown = shown;
    if (shown) this.#keep ??= this.services.keep();
    else {
      this.#keep?.dispose();
      this.#keep = null;
    }
    this.#update();
  }

  /** It takes no place where there is nothing to say. */
  get isActive(): boolean {
    return this.#isShown && sumOf(this.services.runtimes).count > 0;
  }

  /** Another notebook is in front, whose kernel may become another one. */
  #follow(): void {
    this.#context?.kernelChanged.disconnect(this.#update, this);
    this.#context = this.notebooks?.currentWidget?.sessionContext ?? null;
    this.#context?.kernelChanged.connect(this.#update, this);
    this.#update();
  }

  #update(): void {
    this.activeChanged.emit();
    this.stateChanged.emit();
  }
}

class StatusItem extends VDomRenderer<StatusModel> {
  constructor(
    model: StatusModel,
    private readonly trans: TranslationBundle,
    private readonly onClick: () => void,
  ) {
    super(model);
    this.addClass("nbc-status-item");
    this.addClass("jp-mod-highlighted");
    this.node.tabIndex = 0;
    this.node.setAttribute("role", "button");
    this.node.addEventListener("click", onClick);
    this.node.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      this.onClick();
    });
  }

  protected render(): ReactElement {
    const { services, here } = this.model;
    const { look, sign, words, title } = statusWords(services.runtimes, here, services.condition, this.trans);
    this.node.setAttribute("aria-label", title);
    return createElement(
      Fragment,
      null,
      createElement("span", { className: `nbc-dot nbc-dot-${look}`, "aria-hidden": true }, sign),
      createElement(TextItem, { source: words, title }),
    );
  }
}

export const statusPlugin: JupyterFrontEndPlugin<void> = {
  id: ID,
  description: "Says in the status bar how many services of nbcompose run.",
  autoStart: true,
  requires: [INbcompose],
  optional: [IStatusBar, INotebookTracker, ISettingRegistry, ITranslator],
  activate(
    app: JupyterFrontEnd,
    services: INbcompose,
    statusBar: IStatusBar | null,
    notebooks: INotebookTracker | null,
    settings: ISettingRegistry | null,
    translator: ITranslator | null,
  ): void {
    if (!statusBar) return;
    const trans = (translator ?? nullTranslator).load("nbcompose");
    const model = new StatusModel(services, notebooks);
    const item = new StatusItem(model, trans, () => {
      if (app.commands.hasCommand(Commands.showRunning)) void app.commands.execute(Commands.showRunning);
    });
    statusBar.registerStatusItem(ID, {
      item,
      align: "left",
      rank: 3,
      isActive: () => model.isActive,
      activeStateChanged: model.activeChanged,
    });
    // Nothing of Jupyter's start waits for this.
    void app.restored.then(async () => {
      const loaded = await settings?.load(ID).catch(() => null);
      const follow = () => {
        model.isShown = loaded?.composite.shown !== false;
      };
      loaded?.changed.connect(follow);
      follow();
    });
  },
};
