// What is offered in a cell of services while its kernel computes and cannot be asked: what is known from the cell's text
// and from the services that run.

import type { Listed } from "./protocol.ts";

/** One completion; `type` is shown beside it: a signature, where it is an api. */
export interface Offer {
  label: string;
  type: string;
}

/** What may stand in place of `typed`, the text before the cursor. */
export interface Offers {
  typed: string;
  items: Offer[];
}

/** The options of `%%service`, as `nbcompose/_notebook/arguments.py` has them; with the values that can be offered. */
export const OPTIONS: Readonly<Record<string, readonly string[] | "flag">> = {
  "--device": ["cpu"],
  "--replicas": [],
  "--threads": [],
  "--timeout": [],
  "--max-concurrency": [],
  "--interrupt-after": [],
  "--replace-after": [],
  "--port": [],
  "--env": [],
  "--memory": [],
  "--name": [],
  "--strict": "flag",
  "--openai": "flag",
  "--replace": ["start-first", "stop-first"],
  "--no-wait": "flag",
};

const MAGIC = /^\s*%%service\b/;
const DECORATED = /^\s*@(?:\w+\.)?service\b/m;
const TARGET = /\bdepends\(\s*(["']?)(\w*)$/;
const MEMBER = /\bself\.(\w+)(?:\.(to_async|to_sync))?\.(\w*)$/;
const CLASS = /^( *)class\s+(\w+)/gm;
const FORMS = ["to_async", "to_sync"];

/** Whether a cell declares services. */
export const declaresServices = (text: string): boolean => MAGIC.test(text) || DECORATED.test(text);

/** What to offer at the end of `before`, in a cell with this text. `runtime`: the kernel, as far as it is known. */
export function offers(text: string, before: string, runtime: Listed | undefined): Offers | null {
  if (!declaresServices(text)) return null;
  const line = before.slice(before.lastIndexOf("\n") + 1);
  if (MAGIC.test(line)) return optionsOf(line);
  const target = TARGET.exec(line);
  if (target) {
    const [, , typed = ""] = target;
    const running = runtime?.services.map(({ name }) => name) ?? [];
    const names = new Set([...classesOf(before).map(({ name }) => name), ...running]);
    names.delete(classesOf(before).at(-1)?.name ?? ""); // the class that is being written does not call itself
    return matching(
      typed,
      [...names].map((label) => ({ label, type: "class" })),
    );
  }
  const member = MEMBER.exec(line);
  if (!member) return null;
  const [, attribute = "", form, typed = ""] = member;
  const service = declared(before, text, attribute);
  if (!service) return null;
  const apis = written(text, service) ?? running(service, runtime);
  return apis && matching(typed, form ? apis : [...apis, ...FORMS.map((label) => ({ label, type: "instance" }))]);
}

function optionsOf(line: string): Offers | null {
  const words = line.trimStart().split(/\s+/).slice(1);
  const typed = words.pop();
  if (typed === undefined) return null;
  const values = OPTIONS[words.at(-1) ?? ""];
  if (values && values !== "flag")
    return matching(
      typed,
      values.map((label) => ({ label, type: "param" })),
    );
  const used = new Set(words.map((word) => word.split("=")[0]));
  const left = Object.keys(OPTIONS).filter((option) => option === "--env" || !used.has(option));
  return matching(
    typed,
    left.map((label) => ({ label, type: "param" })),
  );
}

function matching(typed: string, items: Offer[]): Offers | null {
  const found = items.filter(({ label }) => label.startsWith(typed));
  return found.length ? { typed, items: found } : null;
}

interface Written {
  name: string;
  indent: number;
  start: number;
}

const classesOf = (text: string): Written[] =>
  [...text.matchAll(CLASS)].map(({ 1: indent = "", 2: name = "", index }) => ({
    name,
    indent: indent.length,
    start: index,
  }));

/** The text of a class, from its first line to the next class that is not inside it. */
function bodyOf(text: string, one: Written): string {
  const next = classesOf(text).find(({ start, indent }) => start > one.start && indent <= one.indent);
  return text.slice(one.start, next?.start);
}

/** The service that `self.ATTRIBUTE` is, in the class that is written at the end of `before`. */
function declared(before: string, text: string, attribute: string): string {
  const around = classesOf(before).at(-1);
  if (!around) return "";
  const declaration = new RegExp(`^\\s+${attribute}\\s*(?::[^=\\n]+)?=\\s*(?:\\w+\\.)?depends\\(\\s*["']?(\\w+)`, "m");
  return declaration.exec(bodyOf(text, around))?.[1] ?? "";
}

/** The apis of a class that this cell defines. */
function written(text: string, name: string): Offer[] | null {
  const found = classesOf(text).find((one) => one.name === name);
  if (!found) return null;
  const api = /@(?:\w+\.)?api\b[^\n]*\n(?:\s*@[^\n]*\n)*\s*(async\s+)?def\s+(\w+)\s*\(([^)]*)\)\s*(->[^:\n]+)?/g;
  return [...bodyOf(text, found).matchAll(api)].map(([, isAsync, label = "", parameters = "", returns = ""]) => {
    const taken = parameters.split(",").slice(1).join(",").replace(/\s+/g, " ").trim();
    return {
      label,
      type: unbroken(`${isAsync ? "async api" : "api"} (${taken})${returns ? ` ${returns.trim()}` : ""}`),
    };
  });
}

/** The apis of a service that runs. */
function running(name: string, runtime: Listed | undefined): Offer[] | null {
  const service = runtime?.services.find((one) => one.name === name);
  if (!service) return null;
  return service.apis.map(({ name: label, signature }) => ({
    label,
    type: unbroken(`api ${signature.slice(label.length)}`),
  }));
}

/** JupyterLab would break it at spaces and hyphens, as in `_notebook/completion.py`. */
const unbroken = (text: string): string => text.replaceAll(" ", "\u00a0").replaceAll("-", "\u2011");
