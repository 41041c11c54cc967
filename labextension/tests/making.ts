// What the tests are about, as the server tells it.

import type { TranslationBundle } from "@jupyterlab/translation";
import type { Listed, ListedService } from "../src/protocol.ts";

export const service = (name: string, more: Partial<ListedService> = {}): ListedService => ({
  name,
  id: `id-${name}`,
  state: "ready",
  reason: "",
  phase: "",
  coming: "",
  reversible: false,
  device: "cpu",
  up: 1,
  wanted: 1,
  in_flight: 0,
  calls: 0,
  errors: 0,
  rate: 0,
  p50_ms: null,
  memory: null,
  error: "",
  behind: "",
  stale: [],
  notes: [],
  serving: 1,
  apis: [],
  dependencies: [],
  options: {},
  cell: "",
  link: `/nbcompose/at/k1/${name}`,
  ...more,
});

export const runtime = (id: string, services: ListedService[], more: Partial<Listed> = {}): Listed => ({
  id,
  kind: "kernel",
  pid: 12,
  title: "",
  path: "folder/a.ipynb",
  kernel: id,
  version: "0.1.0",
  trouble: "",
  services,
  stopped: [],
  ...more,
});

const filled = (text: string, args: unknown[]): string => text.replace(/%(\d)/g, (_, n) => String(args[Number(n) - 1]));

/** English, as it is without a translation. */
export const trans = {
  __: (text: string, ...args: unknown[]) => filled(text, args),
  _n: (one: string, many: string, n: number, ...args: unknown[]) => filled(n === 1 ? one : many, [n, ...args]),
} as unknown as TranslationBundle;
