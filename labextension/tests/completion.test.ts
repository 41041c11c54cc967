import assert from "node:assert/strict";
import { test } from "node:test";
import { OPTIONS, offers } from "../src/completion.ts";
import { runtime, service } from "./making.ts";

const CELL = `%%service
class Writer:
    @api
    async def write(self, prompt: str, count: int = 3) -> AsyncIterator[str]:
        yield prompt

    @api(record=False)
    def stop(self):
        pass

    def helper(self):
        pass

class Answer:
    writer = depends(Writer)
    painter: Painter = depends("Painter")

    @api
    def ask(self):
        `;
const painter = service("Painter", {
  apis: [
    { name: "invert", signature: "invert(picture: Image) -> Image", doc: "", stream: false },
    { name: "paint", signature: "paint(words: str) -> Image", doc: "", stream: false },
  ],
});
const kernel = runtime("k", [painter]);
const labels = (text: string, known = kernel) => offers(text, text, known)?.items.map(({ label }) => label);

test("options stand on the first line, each once, and their values after them", () => {
  assert.deepEqual(labels("%%service "), Object.keys(OPTIONS));
  assert.deepEqual(labels("%%service --re"), ["--replicas", "--replace-after", "--replace"]);
  assert.deepEqual(labels("%%service --replicas 2 --re"), ["--replace-after", "--replace"]);
  assert.deepEqual(labels("%%service --replace st"), ["start-first", "stop-first"]);
  assert.deepEqual(labels("%%service --device "), ["cpu"]);
  assert.equal(labels("%%service --replicas "), undefined);
  assert.deepEqual(labels("%%service --env A=1 --e"), ["--env"]);
  assert.equal(labels("%%time --re"), undefined);
});

test("depends() takes services that run and classes above, and not the one that is written", () => {
  const text = "%%service\nclass Writer:\n    pass\n\nclass Answer:\n    w = depends(";
  assert.deepEqual(labels(text), ["Writer", "Painter"]);
  assert.deepEqual(labels(`${text}P`), ["Painter"]);
  assert.deepEqual(labels(`${text}"P`), ["Painter"]);
  assert.deepEqual(labels(text, runtime("k", [])), ["Writer"]);
  assert.equal(labels(text.replace("%%service", "")), undefined);
});

test("a dependency has the apis of its class in this cell, or of the service that runs", () => {
  assert.deepEqual(offers(`${CELL}self.writer.`, `${CELL}self.writer.`, kernel)?.items, [
    {
      label: "write",
      type: "async api (prompt: str, count: int = 3) -> AsyncIterator[str]"
        .replaceAll(" ", "\u00a0")
        .replace("-", "\u2011"),
    },
    { label: "stop", type: "api\u00a0()" },
    { label: "to_async", type: "instance" },
    { label: "to_sync", type: "instance" },
  ]);
  const [invert] = offers(`${CELL}self.painter.inv`, `${CELL}self.painter.inv`, kernel)?.items ?? [];
  assert.deepEqual(invert, { label: "invert", type: "api\u00a0(picture:\u00a0Image)\u00a0\u2011>\u00a0Image" });
  assert.deepEqual(labels(`${CELL}await self.painter.to_async.`), ["invert", "paint"]);
  assert.equal(labels(`${CELL}self.other.`), undefined);
  assert.equal(labels(`${CELL}self.painter.`, runtime("k", [])), undefined);
});

test("what is below the cursor does not matter to where one is", () => {
  const text = `${CELL}self.writer.\n\nclass Last:\n    writer = depends(Painter)\n`;
  const before = `${CELL}self.writer.`;
  assert.deepEqual(
    offers(text, before, kernel)
      ?.items.slice(0, 2)
      .map(({ label }) => label),
    ["write", "stop"],
  );
});
