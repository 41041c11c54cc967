"""What a user of a hub does in a page: the service that is called, and the scripts that call it through Jupyter."""

from __future__ import annotations

SERVICE = """
%%service
import asyncio
from collections.abc import AsyncIterator
from nbcompose import api

class HubAnswer:
    def __init__(self):
        self.asked = []
        self.go_on = asyncio.Event()
        self.ended = asyncio.Event()

    @api
    async def ask(self, text: str = "") -> str:
        self.asked.append(text)
        return f"{text}!"

    @api
    async def seen(self) -> list[str]:
        return self.asked

    @api
    async def size(self, data: bytes) -> int:
        return len(data)

    @api
    async def write(self) -> AsyncIterator[str]:
        try:
            yield "first"
            await self.go_on.wait()
            yield "second"
        finally:
            self.ended.set()

    @api
    async def release(self) -> None:
        self.go_on.set()

    @api
    async def until_ended(self) -> bool:
        await self.ended.wait()
        self.ended.clear()
        self.go_on.clear()
        return True
""".strip()
CARD, LINK, SEEN = 1, 2, 3
CELLS = ["%load_ext nbcompose", SERVICE, "print(HubAnswer.link)", "print(HubAnswer.seen())"]

# As a script of Jupyter's own page calls an api.
CALL = """
patience => {
    const xsrf = () => {
        const pairs = document.cookie.split("; ").filter(pair => pair.startsWith("_xsrf="));
        return pairs.pop().slice("_xsrf=".length);
    };
    window.post = (link, api, body, headers = {}, signal = AbortSignal.timeout(patience)) =>
        fetch(link.replace(/docs$/, api), {
            method: "POST", headers: { "X-XSRFToken": xsrf(), ...headers }, signal, body,
        });
    window.call = (link, api, body = {}, signal = undefined) =>
        window.post(link, api, JSON.stringify(body), { "Content-Type": "application/json" }, signal);
}
"""
STREAMED = """
async link => {
    const answer = await window.call(link, "write");
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    const first = (await reader.read()).value;
    await window.call(link, "release");  // the second is made from here on
    let rest = "";
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) rest += piece.value;
    return [first, rest, await (await window.call(link, "until_ended")).json()];
}
"""
ABORTED = """
async link => {
    const abort = new AbortController();
    const answer = await window.call(link, "write", {}, abort.signal);
    await answer.body.getReader().read();
    abort.abort();
    return (await window.call(link, "until_ended")).json();
}
"""
UPLOADED = """
async ([link, size]) => {
    const form = new FormData();
    form.append("data", new Blob([new Uint8Array(size)]), "zeros");
    return (await window.post(link, "size", form)).json();
}
"""
