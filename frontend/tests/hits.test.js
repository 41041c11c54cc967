import assert from "node:assert/strict";
import { test } from "node:test";
import { hits, hitWords } from "../../nbcompose/_notebook/graph/static/src/hits.js";

const NAMES = ["Retriever", "Embedder", "WebRetriever", "Writer", "EmbedderLarge"];

test("names are found by parts of them, in any case; those that begin so come first", () => {
  assert.deepEqual(hits(NAMES, "retr"), ["Retriever", "WebRetriever"]);
  assert.deepEqual(hits(["WebRetriever", "Retriever"], "RETR"), ["Retriever", "WebRetriever"]);
  assert.deepEqual(hits(NAMES, " large  emb "), ["EmbedderLarge"]);
  assert.deepEqual(hits(NAMES, "none"), []);
  assert.deepEqual(hits(NAMES, "  "), []);
});

test("how many are found is said, and which of them one is at", () => {
  assert.equal(hitWords([], -1), "no service is called so");
  assert.equal(hitWords(["Writer"], -1), "1 service: Enter goes to the first");
  assert.equal(hitWords(["A", "B"], 1), "2 of 2: B");
});
