import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { Runs, references } from "../src/cellsLines.ts";
import { Plans } from "../src/cellsPlans.ts";
import { cellWords, planWords, serviceCell, textHash, worstService } from "../src/cellsState.ts";
import type { PlannedCell, PlannedService } from "../src/protocol.ts";
import { service, trans } from "./making.ts";

const TEXT = "%%service\nclass A:\n    ...\nclass B:\n    ...";
const HASH = textHash(TEXT);
const of = (name: string, more = {}) => service(name, { cell: "c1", source: HASH, ...more });
const cell = (text = TEXT, id = "c1") => ({ id, text });

test("a text has the hash that the kernel gives it", () => {
  // Those of tests/notebook/test_planning.py, and others from there.
  assert.equal(textHash(""), "cbf29ce484222325");
  assert.equal(textHash("a"), "af63dc4c8601ec8c");
  assert.equal(textHash("foobar \n\t\u00a0\ufeff"), "85944171f73967e8");
  assert.equal(textHash("\ud800"), "6f6d661b9658624a");
  assert.equal(textHash("%%service\nclass Ä:\n    x = '€ 𝄞'  "), "0a6881531358b5cf");
  assert.equal(textHash("x".repeat(100_000)), "fd931f27c2d26fa5");
});

test("a cell is as the worst of its services, and names them all", () => {
  const services = [of("A"), of("B", { stale: ["helper"] }), of("C", { cell: "other" })];
  const here = serviceCell(cell(), services);
  assert.ok(here);
  assert.equal(here.state, "stale");
  assert.equal(here.isEdited, false);
  assert.equal(cellWords(here, trans), "A ready · B stale");
  assert.equal(worstService(here)?.name, "B");
});

test("each way in which a service is has its word", () => {
  const state = (more: object, text = TEXT) => serviceCell(cell(text), [of("A", more)])?.state;
  assert.equal(state({}), "ready");
  assert.equal(state({ state: "starting" }), "starting");
  assert.equal(state({ coming: "version 2" }), "starting");
  assert.equal(state({ state: "waiting" }), "waiting");
  assert.equal(state({ state: "failed", stale: ["x"] }), "failed");
  assert.equal(state({ state: "stopped" }), "stopped");
  assert.equal(state({ behind: "SyntaxError" }), "behind");
  assert.equal(state({}, `${TEXT} # more`), "edited");
  assert.equal(state({}, `${TEXT} \n`), "ready");
  assert.equal(state({ source: "" }, `${TEXT} # more`), "ready");
});

test("edited is said beside what the service is", () => {
  const here = serviceCell(cell(`${TEXT} #`), [of("A", { stale: ["x"] }), of("B", { source: textHash(`${TEXT} #`) })]);
  assert.ok(here?.isEdited);
  assert.equal(cellWords(here, trans), "A stale, edited · B ready");
});

test("a cell whose text no longer defines a service has it until the cell is run, and then as one of earlier", () => {
  const named = (text: string, id = "c1") =>
    serviceCell(cell(text, id), [of("A"), of("B")])?.services.map((s) => s.name) ?? [];
  assert.deepEqual(named(TEXT, "copy"), []); // a copy has an id of its own
  assert.deepEqual(named(TEXT, ""), []);
  for (const text of ["%%service\nclass AA: ...", "class A: ...", "1 + 1", "%%service\nclass A("]) {
    const here = serviceCell(cell(text), [of("A")]);
    assert.ok(here?.wantsPlan);
    assert.equal(cellWords(here, trans), "A edited");
  }
  const renamed = "%%service\nclass AA: ...";
  const services = [of("A", { stale: ["x"] }), of("AA", { source: textHash(renamed) })];
  const here = serviceCell(cell(renamed), services);
  assert.equal(here?.state, "ready");
  assert.equal(here.wantsPlan, false);
  assert.equal(cellWords(here, trans), "A stale (of an earlier text) · AA ready");
  // What the text defines and what did not come up is not of an earlier one.
  const both = serviceCell(cell(`${TEXT}#`), [of("A", { source: textHash(`${TEXT}#`) }), of("B", { behind: "x" })]);
  assert.equal(both && cellWords(both, trans), "A ready · B ready, previous version, edited");
});

test("a service that was stopped is at the cell that would start it again", () => {
  const stopped = (text: string, name = "A", id = "c1") =>
    serviceCell(cell(text, id), [of("B")], [{ name, cell: "c1", source: HASH }]);
  const here = stopped(TEXT);
  assert.equal(here?.state, "stopped");
  assert.ok(here.wantsPlan);
  assert.equal(here.isEdited, false);
  assert.equal(cellWords(here, trans), "B ready · A stopped");
  assert.equal(worstService(here)?.name, "B");
  const alone = serviceCell(cell(`${TEXT}#`), [], [{ name: "A", cell: "c1", source: HASH }]);
  assert.equal(alone && cellWords(alone, trans), "A stopped");
  assert.equal(alone && worstService(alone), null);
  const names = (text: string, name?: string, id?: string) =>
    stopped(text, name, id)?.services.map((s) => s.name) ?? [];
  assert.deepEqual(names("%%service\nclass AA: ..."), ["B"]); // it was renamed
  assert.deepEqual(names("class A: ..."), ["B"]); // it lost its %%service
  assert.deepEqual(names("@service\nclass A: ..."), ["B"]); // a decorator starts nothing
  assert.deepEqual(names(TEXT, "A", "copy"), []);
  assert.deepEqual(names("%%service --name Other\nclass A: ...", "Other"), ["B", "Other"]);
  assert.deepEqual(names("%%service\n@nbcompose.service(name='Other')\nclass A: ...", "Other"), ["B", "Other"]);
});

const planned = (name: string, outcome: PlannedService["outcome"], why = ""): PlannedService => ({
  service: name,
  outcome,
  why,
});

test("what a run will do is said once where it is the same for all", () => {
  const none = { services: [] };
  assert.equal(planWords(null, none, trans), "");
  assert.equal(planWords([], none, trans), "");
  assert.equal(planWords([planned("A", "nothing")], none, trans), "does nothing");
  assert.equal(planWords([planned("A", "replace"), planned("B", "replace")], none, trans), "starts new replicas");
  assert.equal(planWords([planned("A", "start")], none, trans), "starts A");
  assert.equal(
    planWords([planned("A", "swap"), planned("B", "nothing")], none, trans),
    "A swaps the code, weights kept; B does nothing",
  );
  assert.equal(
    planWords([planned("B", "start"), planned("A", "replace"), planned("C", "start")], none, trans),
    "A starts new replicas; starts B, C",
  );
  assert.equal(planWords([planned("A", "unknown", "a cell runs")], none, trans), "cannot tell: a cell runs");
  assert.equal(planWords([planned("", "unknown", "it is not Python")], none, trans), "cannot tell: it is not Python");
});

test("what a run leaves alone is named, where that can be told", () => {
  const words = (plan: PlannedService[], more: object = {}, text = "%%service\nclass AA: ...") => {
    const here = serviceCell(cell(text), [of("A", more), of("B")]);
    return here && planWords(plan, here, trans);
  };
  const b = planned("B", "nothing");
  assert.equal(words([b, planned("AA", "start")]), "B does nothing; starts a new service, AA; A goes on running");
  assert.equal(words([planned("AA", "start")]), "starts a new service, AA; A, B go on running");
  assert.equal(words([b]), "B does nothing; A goes on running");
  assert.equal(words([], {}, "class A: ..."), "starts no service; A, B go on running");
  assert.equal(words([b, planned("AA", "start")], { state: "failed" }), "B does nothing; starts AA");
  assert.equal(words([planned("AA", "unknown", "no")]), "cannot tell: no"); // it may be called A
});

/** A process that answers when it is told to. */
function process() {
  const asked: { cells: { cell: string; text: string }[]; answer(outcome: PlannedService["outcome"]): void }[] = [];
  let changes = 0;
  const plans = new Plans(
    (cells) =>
      new Promise<PlannedCell[]>((resolve) => {
        const answer = (outcome: PlannedService["outcome"]) =>
          resolve(cells.map(({ cell: id }) => ({ cell: id, services: [planned("A", outcome)] })));
        asked.push({ cells, answer });
      }),
    () => {
      changes += 1;
    },
  );
  return { plans, asked, changes: () => changes };
}

const settled = () => new Promise<void>((resolve) => setImmediate(resolve));

test("plans are asked for when nobody writes, of what is wanted, once", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { plans, asked, changes } = process();
  plans.want(new Map([["c1", "a"]]));
  t.mock.timers.tick(300);
  plans.want(new Map([["c1", "ab"]]));
  t.mock.timers.tick(300);
  assert.equal(asked.length, 0);
  t.mock.timers.tick(200);
  assert.deepEqual(asked[0]?.cells, [{ cell: "c1", text: "ab" }]);
  asked[0]?.answer("swap");
  await settled();
  assert.equal(changes(), 1);
  assert.equal(plans.of("c1", "ab")?.[0]?.outcome, "swap");
  assert.equal(plans.of("c1", "abc"), null);
  plans.want(new Map([["c1", "ab"]]));
  t.mock.timers.tick(1000);
  assert.equal(asked.length, 1);
  plans.want(new Map());
  assert.equal(plans.of("c1", "ab"), null);
  plans.want(new Map([["c1", "ab"]]));
  plans.clear();
  t.mock.timers.tick(1000);
  assert.equal(asked.length, 1);
});

test("after another cell has run, plans are asked for again, and an answer from before is not told", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { plans, asked } = process();
  plans.want(new Map([["c1", "a"]]));
  t.mock.timers.tick(400);
  plans.forget();
  asked[0]?.answer("nothing");
  await settled();
  assert.equal(plans.of("c1", "a"), null);
  t.mock.timers.tick(400);
  asked[1]?.answer("replace");
  await settled();
  assert.equal(plans.of("c1", "a")?.[0]?.outcome, "replace");
  plans.forget();
  assert.equal(plans.of("c1", "a"), null);
});

test("a process that cannot tell plans is not asked again until something changes", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const ask = mock.fn(() => Promise.reject<PlannedCell[]>(new Error("type is none of")));
  const plans = new Plans(ask, () => assert.fail("nothing has changed"));
  plans.want(new Map([["c1", "a"]]));
  t.mock.timers.tick(400);
  await settled();
  plans.want(new Map([["c1", "a"]]));
  t.mock.timers.tick(5000);
  assert.equal(ask.mock.callCount(), 1);
});

test("lines are found in errors", () => {
  const text = "Cell In[3], line 12, in A.f(self)\n  other\nCell In [45], line 6";
  const found = references(text);
  assert.deepEqual(
    found.map(({ count, line, start, end }) => [count, line, text.slice(start, end)]),
    [
      [3, 12, "Cell In[3], line 12"],
      [45, 6, "Cell In [45], line 6"],
    ],
  );
});

test("a line leads to the cell that was run with its number, also after that was edited, moved or run again", () => {
  const runs = new Runs();
  const first = { id: "a", text: "one\ntwo\nthree", count: null as number | null };
  const other = { id: "b", text: "x", count: 7 };
  runs.note(3, first.text, [other, first]);
  assert.deepEqual(runs.find(3, 2, [first, other]), { index: 0, line: 1 });
  const edited = { ...first, text: "zero\none\ntwo", count: 9 };
  assert.deepEqual(runs.find(3, 2, [other, edited]), { index: 1, line: 2 });
  assert.deepEqual(runs.find(3, 3, [other, edited]), { index: 1, line: 2 }); // "three" is gone
  assert.equal(runs.find(3, 2, [other]), null); // it was deleted
  assert.deepEqual(runs.find(7, 99, [other]), { index: 0, line: 0 }); // from before the page was loaded
  assert.equal(runs.find(8, 1, [other]), null);
  runs.clear();
  assert.equal(runs.find(3, 2, [edited]), null);
});
