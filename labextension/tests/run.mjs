// Bundles each test with what it tests, for node, and runs them.

import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const target = join(here, "../../build/labextension-tests");
const tests = readdirSync(here).filter((name) => name.endsWith(".test.ts"));
await build({
  entryPoints: tests.map((name) => join(here, name)),
  outdir: target,
  outExtension: { ".js": ".cjs" },
  bundle: true,
  platform: "node",
  format: "cjs",
  logLevel: "error",
});
const files = tests.map((name) => join(target, name.replace(/\.ts$/, ".cjs")));
process.exit(spawnSync("node", ["--test", "--test-reporter=dot", ...files], { stdio: "inherit" }).status ?? 1);
