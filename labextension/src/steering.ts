// What users do with services: asked first where it hurts, and told where it fails.

import { Dialog, InputDialog, Notification, showDialog } from "@jupyterlab/apputils";
import type { TranslationBundle } from "@jupyterlab/translation";
import { allServices, type Listed, type ListedService, type RuntimeReply } from "./protocol.ts";
import { type Asked, RequestFailed, type Services } from "./services.ts";
import { conditionWords, runtimeName, stopWords } from "./words.ts";

export interface Target {
  runtime: Listed;
  service: ListedService;
}

/** What names a service: `runtime` is an id, and may be left out where it is clear. */
export interface Named {
  runtime?: string;
  service?: string;
}

/** The services that may be meant; those of the notebook in front first, and alone where it has one of that name. */
export function candidates(runtimes: readonly Listed[], named: Named, path: string): Target[] {
  const found = [...allServices(runtimes)].filter(
    ({ runtime, service }) =>
      (!named.runtime || runtime.id === named.runtime) && (!named.service || service.name === named.service),
  );
  const here = found.filter(({ runtime }) => path && runtime.path === path);
  if (named.service && here.length) return here;
  return [...here, ...found.filter((target) => !here.includes(target))];
}

const SLOW = 1000; // ms after which one is told what goes on

export class Steering {
  constructor(
    private readonly services: Services,
    private readonly trans: TranslationBundle,
  ) {}

  /** The service that is meant: by its name, or as the user chooses. None where the user chooses none. */
  async target(named: Named, path: string, title: string): Promise<Target | null> {
    const { services, trans } = this;
    if (services.condition !== "live") await services.refresh();
    const found = candidates(services.runtimes, named, path);
    if (named.service && found.length === 1) return found[0] ?? null;
    if (!found.length) {
      const why = conditionWords(services.condition, trans);
      const none = named.service ? trans.__("No service %1 runs.", named.service) : trans.__("No service runs.");
      throw new RequestFailed("NoService", why || none);
    }
    const items = found.map(({ runtime, service }) => `${service.name} – ${runtimeName(runtime, services.runtimes)}`);
    const distinct = items.map((item, i) => (items.indexOf(item) === i ? item : `${item} (${i + 1})`));
    const chosen = await InputDialog.getItem({ title, label: trans.__("Service"), items: distinct });
    return chosen.button.accept && chosen.value !== null ? (found[distinct.indexOf(chosen.value)] ?? null) : null;
  }

  /** Ask the process of a service. */
  ask({ runtime }: Pick<Target, "runtime">, request: Asked): Promise<RuntimeReply> {
    return this.services.request(runtime.id, request);
  }

  /** `isOthers`: it concerns a program that is not of this server. Enter does not do that. */
  async sure(title: string, body: string, yes: string, isOthers = false): Promise<boolean> {
    const { button } = await showDialog({
      title,
      body,
      buttons: [Dialog.cancelButton(), Dialog.warnButton({ label: yes })],
      defaultButton: isOthers ? 0 : 1,
    });
    return button.accept;
  }

  /** Stop a service; `ask`: after it was said who depends on it. */
  async stop(target: Target, ask = true): Promise<RuntimeReply | null> {
    const { trans } = this;
    const { runtime, service } = target;
    const words = stopWords(runtime, service.name, trans);
    const title = trans.__("Stop %1?", service.name);
    if (ask && !(await this.sure(title, words, trans.__("Stop"), runtime.kind === "serve"))) return null;
    return this.ask(target, { type: "stop", service: service.name });
  }

  /** Stop all services of these processes, callers before what they call. */
  async stopAll(runtimes: readonly Listed[]): Promise<void> {
    const { trans } = this;
    const count = runtimes.flatMap(({ services }) => services.filter(({ state }) => state !== "stopped")).length;
    if (!count) return;
    // Calls under way end first, which may take long.
    const words = trans._n(
      "Stopping %1 service, after its calls under way …",
      "Stopping %1 services, after their calls under way …",
      count,
    );
    let id = "";
    const slow = setTimeout(() => {
      id = Notification.emit(words, "in-progress", { autoClose: false });
    }, SLOW);
    try {
      await this.#stopEach(runtimes);
    } finally {
      clearTimeout(slow);
      // JupyterLab makes the first toast of a page after a while, and would then show one that is gone.
      if (id) setTimeout(() => Notification.dismiss(id), SLOW);
    }
  }

  async #stopEach(runtimes: readonly Listed[]): Promise<void> {
    await Promise.all(
      runtimes.map(async (runtime) => {
        for (const service of callersFirst(runtime.services)) {
          await this.ask({ runtime }, { type: "stop", service });
        }
      }),
    );
  }

  /** Do something, and tell the user where it fails. */
  async tell<T>(doing: Promise<T>): Promise<T | null> {
    try {
      return await doing;
    } catch (error) {
      let words = error instanceof Error ? error.message : String(error);
      if (error instanceof RequestFailed && error.kind === "Unavailable") {
        words = conditionWords(this.services.condition, this.trans) || words;
      }
      Notification.error(`nbcompose: ${words}`, { autoClose: 8000 });
      return null;
    }
  }
}

/** Names of services, each before those that it depends on. */
export function callersFirst(services: readonly ListedService[]): string[] {
  const byName = new Map(services.map((service) => [service.name, service]));
  const order: string[] = [];
  const seen = new Set<string>();
  const visit = (name: string): void => {
    if (seen.has(name)) return;
    seen.add(name);
    for (const below of byName.get(name)?.dependencies ?? []) visit(below);
    if (byName.has(name)) order.unshift(name);
  };
  for (const name of byName.keys()) visit(name);
  return order;
}
