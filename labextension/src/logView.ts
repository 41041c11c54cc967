// The log of a service, in a window of its own: the Logs tab of the graph.

import type { TranslationBundle } from "@jupyterlab/translation";
import type { Message } from "@lumino/messaging";
import { Widget } from "@lumino/widgets";
import { logsTab } from "../../nbcompose/_notebook/graph/static/src/logs.js";
import type { Heard, Kernel, Tab } from "../../nbcompose/_notebook/graph/static/src/types.d.ts";
import { graphIcon } from "./icons.ts";
import type { Asked, Services } from "./services.ts";
import type { Target } from "./steering.ts";
import { runtimeName } from "./words.ts";

const PERIOD = 1000; // ms between looks, while it can be seen

/** It asks for new lines only while it can be seen. */
export class LogView extends Widget {
  #tab: Tab;
  #condition = document.createElement("div");
  #timer: ReturnType<typeof setInterval> | undefined;
  #isAsking = false;

  constructor(
    private readonly services: Services,
    private readonly target: Target,
    trans: TranslationBundle,
  ) {
    super();
    const { runtime, service } = target;
    this.id = `nbcompose-logs-${runtime.id}-${service.name}`;
    this.title.label = trans.__("Logs of %1", service.name);
    this.title.caption = `${service.name} – ${runtimeName(runtime)}`;
    this.title.icon = graphIcon;
    this.title.closable = true;
    this.addClass("nbc-app");
    this.addClass("nbc-log-view");
    this.#condition.className = "nbc-condition";
    this.#condition.setAttribute("role", "status");
    this.#tab = logsTab({ send: (request) => void this.#ask(request as Asked) } as Kernel, service.name);
    this.#tab.update(service);
    const panel = document.createElement("div");
    panel.className = "nbc-panel"; // whose fields and lines look as they do in the graph
    panel.append(this.#tab.element);
    this.node.append(this.#condition, panel);
  }

  async #ask(request: Asked): Promise<void> {
    if (this.#isAsking) return;
    this.#isAsking = true;
    try {
      this.#tab.hear((await this.services.request(this.target.runtime.id, request)) as Heard);
      this.#condition.textContent = "";
    } catch (error) {
      this.#condition.textContent = error instanceof Error ? error.message : String(error);
    } finally {
      this.#isAsking = false;
    }
  }

  protected override onAfterShow(_: Message): void {
    this.#follow(true);
  }

  protected override onBeforeHide(_: Message): void {
    this.#follow(false);
  }

  protected override onAfterAttach(_: Message): void {
    this.#follow(this.isVisible);
  }

  protected override onBeforeDetach(_: Message): void {
    this.#follow(false);
  }

  #follow(on: boolean): void {
    clearInterval(this.#timer);
    if (!on) return;
    this.#timer = setInterval(() => document.hidden || this.#tab.tick(), PERIOD);
    this.#tab.tick();
  }
}
