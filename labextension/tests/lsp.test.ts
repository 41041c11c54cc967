import assert from "node:assert/strict";
import { test } from "node:test";
import { type Override, type OverridesManager, register, SERVICE_CELL } from "../src/lsp.ts";

const ALL_MAGICS: Override = { scope: "cell", pattern: "^%%(\\S+)(.*\n)([\\s\\S]*)", replacement: "magic('$1')" };

/** As jupyterlab-lsp does it. */
function shown(text: string, overrides: Override[]): string {
  const found = overrides.find(({ pattern }) => new RegExp(pattern).test(text));
  return found ? text.replace(new RegExp(found.pattern), found.replacement) : text;
}

function manager(registered: Override[]): OverridesManager {
  const registry: OverridesManager["registry"] = {};
  const made = {
    registry,
    register(override: Override, language: string) {
      registry[language] ??= { cell: [], line: [] };
      registry[language][override.scope].push(override);
    },
  };
  for (const override of registered) made.register(override, "python");
  return made;
}

test("a language server sees the Python of a cell of services, on the same lines", () => {
  for (const before of [[], [ALL_MAGICS]]) {
    const made = manager(before);
    register(made);
    const cells = made.registry.python?.cell ?? [];
    const text = "%%service --replicas 2\nclass Answer:\n    pass";
    const seen = shown(text, cells);
    assert.equal(seen, "# nbcompose %%service --replicas 2\nclass Answer:\n    pass");
    assert.equal(shown(seen, [SERVICE_CELL.reverse as Override]), text);
  }
});

test("other cells are left to others", () => {
  const made = manager([ALL_MAGICS]);
  register(made);
  const cells = made.registry.python?.cell ?? [];
  assert.equal(shown("%%services\nstop", cells), "magic('services')");
  assert.equal(shown("x = '%%service'", cells), "x = '%%service'");
});
