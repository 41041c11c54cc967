import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { curlLine, request } from "../../nbcompose/_replica/http/static/requests.js";

/** @type {[string, Record<string, any>, string][]} */
const BODIES = [
  ["", { text: "a", top: 3 }, '{"text":"a","top":3}'],
  ["", {}, "{}"],
  ["text", { text: "a" }, '"a"'],
  ["text", { text: null }, "null"],
  ["text", {}, ""],
];
for (const [root, values, text] of BODIES) {
  test(`the body of ${JSON.stringify([root, values])} is ${text || "empty"}`, () => {
    assert.deepEqual(request(root, values), { body: text, headers: { "Content-Type": "application/json" } });
  });
}

const FILES = [new File(["1"], "a.png"), new File(["2"], "b.png")];

test("files make a form, in which a text is itself", () => {
  const { body, headers } = request("", { images: FILES, title: "a b", tags: ["x"], top: 3 });
  assert.ok(body instanceof FormData);
  assert.deepEqual(headers, {}); // fetch says where its parts end
  const parts = [...body].map(([name, value]) => [name, value instanceof File ? value.name : value]);
  assert.deepEqual(parts, [
    ["images", "a.png"],
    ["images", "b.png"],
    ["title", "a b"],
    ["tags", '["x"]'],
    ["top", "3"],
  ]);
});

/** The words of a line, as a shell reads it. @param {string} line */
const words = (line) =>
  execFileSync("sh", ["-c", `printf '%s\\n' ${line}`], { encoding: "utf8" })
    .split("\n")
    .slice(0, -1);

test("a shell reads what curl is to send", () => {
  const line = curlLine("http://h/ask", request("", { text: "it's" }), false, false);
  assert.deepEqual(words(line), [
    "curl",
    "http://h/ask",
    "-H",
    "Content-Type: application/json",
    "-d",
    '{"text":"it\'s"}',
  ]);
  const files = curlLine("http://h/ask", request("", { a: FILES[0], b: "@b" }), true, true);
  assert.deepEqual(words(files.replace("$NBCOMPOSE_TOKEN", "t")), [
    "curl",
    "http://h/ask",
    "-o",
    "answer",
    "-H",
    "Authorization: Bearer t",
    "-F",
    'a=@"a.png"',
    "--form-string",
    "b=@b",
  ]);
});
