import assert from "node:assert/strict";
import { test } from "node:test";
import { pageOf } from "../src/cardLinks.ts";
import { runtime, service } from "./making.ts";

test("a card leads to the page of a service that its kernel runs, and nowhere else", () => {
  const kernel = runtime("k1", [service("Answer", { link: "/user/name/nbcompose/at/k1/Answer/" })]);
  assert.equal(pageOf("Answer/docs", kernel), "/user/name/nbcompose/at/k1/Answer/docs");
  assert.equal(pageOf("Other/docs", kernel), "");
  assert.equal(pageOf("Answer/docs", undefined), "");
  for (const at of ["", "Answer", "Answer/docs/../../x", "Answer/ask", "//evil.example/docs"]) {
    assert.equal(pageOf(at, kernel), "", at);
  }
  assert.equal(pageOf("Answer/docs", runtime("k1", [service("Answer", { link: "" })])), "");
});
