import assert from "node:assert/strict";
import { test } from "node:test";
import { curl, example, shellWord } from "../src/commandLine.ts";
import { composedNotebook, LOAD, missingAbove } from "../src/template.ts";
import {
  detailWords,
  lookOf,
  looksWords,
  rowWords,
  runtimeName,
  statusWords,
  stopAllWords,
  stopWords,
  sumOf,
  sumWords,
  titleWords,
} from "../src/words.ts";
import { runtime, service, trans } from "./making.ts";

test("a service has its state, device, memory and rate, as far as they are known", () => {
  assert.equal(detailWords(service("A"), trans), "ready · cpu");
  const busy = service("A", { up: 1, wanted: 2, memory: 3 * 1024 ** 2, memory_over: true, rate: 4.25 });
  assert.equal(detailWords(busy, trans), "ready · cpu · 1/2 · 3 MiB ⚠ · 4.3/s");
  // In the words of the cell's badge.
  assert.equal(detailWords(service("A", { stale: ["x"], coming: "version 2" }), trans), "starting, stale · cpu");
  assert.equal(lookOf(service("A", { stale: ["x"] })), "stale");
  const behind = service("A", { behind: "SyntaxError" });
  assert.equal(lookOf(behind), "behind");
  assert.match(titleWords(runtime("k", [behind]), behind, trans), /this is the previous version: SyntaxError/);
});

test("a row has the state first, and of the rest what is not as usual", () => {
  assert.equal(rowWords(service("A", { memory: 3 * 1024 ** 2 }), trans), "ready");
  const busy = service("A", {
    up: 1,
    wanted: 2,
    memory: 3 * 1024 ** 2,
    memory_over: true,
    rate: 4.25,
    device: "cuda:0",
  });
  assert.equal(rowWords(busy, trans), "ready · 3 MiB ⚠ · 1/2 · 4.3/s · cuda:0");
});

test("it is said who needs a service before it is stopped", () => {
  const names = ["B", "C", "D", "E"];
  const all = runtime("k", [service("A"), ...names.map((name) => service(name, { dependencies: ["A"] }))]);
  assert.equal(stopWords(all, "B", trans), "No service needs B.");
  assert.equal(stopWords(all, "A", trans), "B, C, 2 more cannot answer without A.");
  const over = service("Over", { dependencies: ["Front"] });
  const chain = runtime("k", [over, service("Front", { dependencies: ["Below"] }), service("Below")]);
  assert.equal(stopWords(chain, "Below", trans), "Front, Over cannot answer without Below.");
});

test("a process is named by its notebook, its title, or its number", () => {
  assert.equal(runtimeName(runtime("k", [])), "a.ipynb");
  const serve = { kind: "serve", path: "", pid: 77 } as const;
  assert.equal(runtimeName(runtime("serve-77", [], { ...serve, title: "app.py" })), "app.py");
  assert.equal(runtimeName(runtime("serve-77", [], serve)), "nbcompose serve (77)");
  assert.equal(runtimeName(runtime("serve-77", [], { ...serve, title: "?" })), "process 77");
});

test("processes of the same name are told apart", () => {
  const program = (pid: number) => runtime(`serve-${pid}`, [], { kind: "serve", path: "", pid, title: "python" });
  const notebook = (id: string, path: string) => runtime(id, [], { path, pid: 5 });
  const all = [
    program(7),
    program(8),
    notebook("k1", "a.ipynb"),
    notebook("k2", "old/a.ipynb"),
    notebook("k3", "b.ipynb"),
  ];
  assert.deepEqual(
    all.map((one) => runtimeName(one, all)),
    ["python (7)", "python (8)", "a.ipynb", "old/a.ipynb", "b.ipynb"],
  );
});

test("the worst of the services decides the sum, and a rate is said only while it is that of now", () => {
  const sum = (...services: ReturnType<typeof service>[]) => sumOf([runtime("k", services)]);
  assert.equal(sum().look, "none");
  assert.equal(sum(service("A"), service("B", { state: "starting" })).look, "waiting");
  assert.equal(sum(service("A", { stale: ["x"] }), service("B")).look, "waiting");
  const many = sum(service("A", { stale: ["x"] }), service("B"), service("C", { state: "failed" }), service("D"));
  assert.equal(looksWords(many, trans), "1 failed, 1 stale, 2 ready");
  assert.equal(sum(service("A", { state: "failed" }), service("B", { state: "starting" })).look, "failed");
  assert.equal(sum(service("A", { state: "stopped" })).count, 0);
  const two = sum(service("A", { rate: 11 }), service("B", { rate: 1 }));
  assert.equal(sumWords(two, true, trans), "2 services · 12/s");
  assert.equal(sumWords(two, false, trans), "2 services");
});

test("the status bar is about the notebook in front, and says where others are", () => {
  const mine = runtime("k", [service("A"), service("B")]);
  const program = runtime("serve-7", [service("C", { state: "failed" })], {
    kind: "serve",
    pid: 7,
    path: "",
    title: "app.py",
  });
  const other = runtime("k2", [service("D")], { path: "folder/b.ipynb" });
  const said = statusWords([mine, program, other], mine, "listed", trans);
  assert.deepEqual([said.words, said.look], ["2 services", "ready"]);
  assert.deepEqual(said.title.split("\n"), [
    "nbcompose",
    "a.ipynb: 2 services; 2 ready",
    "Elsewhere:",
    "app.py (nbcompose serve, process 7): 1 service; 1 failed",
    "b.ipynb: 1 service; 1 ready",
  ]);
  for (const [state, sign] of [
    ["starting", "◌"],
    ["waiting", "◷"],
    ["failed", "✖"],
  ] as const) {
    const here = runtime("k4", [service("E"), service("F", { state })]);
    assert.equal(statusWords([here], here, "listed", trans).sign, sign);
  }
  for (const here of [undefined, runtime("k3", [])]) {
    const none = statusWords([mine, program], here, "listed", trans);
    assert.deepEqual([none.words, none.look], ["3 services elsewhere", "none"]);
    assert.match(none.title, /^nbcompose\nElsewhere:\na\.ipynb: 2 services/);
  }
});

test("before all is stopped it is said how many services there are, and whose", () => {
  const many = runtime(
    "k",
    ["A", "B", "C", "D", "E"].map((name) => service(name)),
  );
  const program = runtime("serve-7", [service("F"), service("G", { state: "stopped" })], {
    kind: "serve",
    pid: 7,
    path: "",
    title: "app.py",
  });
  const next = "You are asked about services of programs outside this server next.";
  assert.deepEqual(stopAllWords([many, runtime("k2", [], { path: "b.ipynb" })], [program], trans), {
    first: `5 services will be stopped, with their models. 5 of a.ipynb: A, B, C, D, E. ${next}`,
    asked: "1 service will be stopped, with its models. 1 of app.py (nbcompose serve, process 7): F.",
  });
  assert.equal(stopAllWords([], [program], trans).first, `No service of this server's notebooks runs. ${next}`);
  const alone = "5 services will be stopped, with their models. 5 of a.ipynb: A, B, C, D, E.";
  assert.deepEqual(stopAllWords([many], [], trans), { first: alone, asked: "" });
});

test("a call for a terminal has what the schema wants, quoted, and no token", () => {
  const schema = {
    type: "object",
    required: ["text", "pair", "style"],
    properties: {
      text: { type: "string" },
      pair: { type: "array", items: { $ref: "#/$defs/N" } },
      style: { enum: ["it's"] },
      more: { type: "string" },
    },
    $defs: { N: { type: "integer", minimum: 2 } },
  };
  assert.deepEqual(example(schema), { text: "...", pair: [2], style: "it's" });
  const text = curl("http://h/user/me/nbcompose/at/k/A/", "ask", schema);
  assert.ok(
    text.startsWith("curl -s 'http://h/user/me/nbcompose/at/k/A/ask' -H \"Authorization: token $JUPYTER_TOKEN\""),
  );
  assert.ok(text.endsWith(`-d '{"text":"...","pair":[2],"style":"it'\\''s"}'`));
  assert.equal(shellWord("a'b"), "'a'\\''b'");
});

test("a new service has the extension above it where no cell loads it", () => {
  assert.equal(missingAbove(["import x", "  %load_ext nbcompose"]), null);
  assert.equal(missingAbove(["# %load_ext other"]), LOAD);
  const cells = composedNotebook(null).cells as { id: string; cell_type: string }[];
  assert.equal(new Set(cells.map((cell) => cell.id)).size, cells.length);
});
