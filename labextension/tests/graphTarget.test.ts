import assert from "node:assert/strict";
import { test } from "node:test";
import {
  keyOf,
  lastingTarget,
  notice,
  runtimeOf,
  type Situation,
  sameTarget,
  targetName,
  targetOf,
} from "../src/graphTarget.ts";
import { runtime, service, trans } from "./making.ts";

const HERE = runtime("k1", [service("A")]);
const SERVE = runtime("serve-7", [], { kind: "serve", path: "", title: "dir/app.py", kernel: "" });

const situation = (more: Partial<Situation> = {}): Situation => ({
  condition: "listed",
  target: { path: "folder/a.ipynb" },
  name: "a.ipynb",
  listed: undefined,
  kernel: "python",
  language: "Python 3",
  loading: { at: "no" },
  had: false,
  ...more,
});

test("a notebook is known by its path, another process by its id", () => {
  assert.deepEqual(lastingTarget({ runtime: "k1" }, [HERE, SERVE]), { path: "folder/a.ipynb" });
  assert.deepEqual(lastingTarget({ runtime: "serve-7" }, [HERE, SERVE]), { runtime: "serve-7" });
  assert.deepEqual(lastingTarget({ runtime: "k9" }, [HERE, SERVE]), { runtime: "k9" });
  assert.equal(targetName({ path: "folder/a.ipynb" }, undefined), "a.ipynb");
  assert.equal(targetName({ runtime: "serve-7" }, SERVE), "app.py");
});

test("of two kernels of one notebook it is the one that the notebook has here", () => {
  const other = runtime("k2", [], { path: HERE.path });
  assert.equal(runtimeOf({ path: HERE.path }, "k2", [HERE, other]), other);
  assert.equal(runtimeOf({ path: HERE.path }, "", [HERE, other]), HERE);
  assert.equal(runtimeOf({ path: HERE.path }, "k3", [HERE, other]), undefined);
  assert.equal(runtimeOf({ runtime: "serve-7" }, "k1", [HERE, SERVE]), SERVE);
  assert.equal(runtimeOf(null, "k1", [HERE]), undefined);
});

test("what was kept is a target or none", () => {
  assert.deepEqual(targetOf({ path: "a.ipynb", service: "A" }), { path: "a.ipynb" });
  assert.deepEqual(targetOf({ runtime: "serve-7" }), { runtime: "serve-7" });
  for (const none of [null, undefined, 3, "a", {}, { path: 3 }, { path: "" }]) assert.equal(targetOf(none), null);
  assert.ok(sameTarget({ path: "a" }, { path: "a" }) && !sameTarget({ path: "a" }, { runtime: "a" }));
  assert.notEqual(keyOf({ path: "a" }), keyOf({ runtime: "a" }));
});

test("where there is a graph nothing is said", () => {
  assert.equal(notice(situation({ listed: HERE }), trans), null);
  assert.equal(notice(situation({ listed: HERE, condition: "lost" }), trans), null); // the link says it
});

test("what is missing is said with the way out", () => {
  const ways = (more: Partial<Situation>) => notice(situation(more), trans)?.ways;
  const words = (more: Partial<Situation>) => notice(situation(more), trans)?.words ?? "";
  assert.deepEqual(ways({}), ["load"]);
  assert.match(words({}), /not loaded in the kernel of a\.ipynb/);
  assert.deepEqual(ways({ kernel: "none" }), ["kernel"]);
  assert.deepEqual(ways({ kernel: "closed" }), ["open"]);
  assert.deepEqual(ways({ kernel: "starting" }), []);
  assert.match(words({ kernel: "other", language: "R" }), /runs R/);
  assert.match(words({ had: true }), /restarted or has ended/);
  assert.match(words({ target: null }), /open one/);
  assert.match(words({ target: { runtime: "serve-7" } }), /has ended/);
  assert.match(words({ loading: { at: "done" } }), /another machine/);
  assert.match(words({ loading: { at: "failed", why: "ModuleNotFoundError" } }), /ModuleNotFoundError.*%pip install/);
  assert.match(words({ listed: { ...HERE, trouble: "does not answer" } }), /does not answer/);
});

test("without the server extension it is said how to have it, and what works without", () => {
  const missing = (more: Partial<Situation>) => notice(situation({ condition: "missing", ...more }), trans);
  assert.match(missing({})?.words ?? "", /jupyter server extension enable nbcompose.*load nbcompose in a\.ipynb/s);
  assert.deepEqual(missing({})?.ways, ["load", "again"]);
  assert.match(missing({ loading: { at: "waits" } })?.words ?? "", /^Loading nbcompose/);
  for (const more of [{ kernel: "none" }, { target: null }, { loading: { at: "done" } }] as Partial<Situation>[]) {
    assert.match(missing(more)?.words ?? "", /jupyter server extension enable nbcompose.*%graph/s);
    assert.deepEqual(missing(more)?.ways, ["again"]);
  }
  assert.match(notice(situation({ condition: "refused" }), trans)?.words ?? "", /may not see/);
});
