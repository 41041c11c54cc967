"""Small helpers of a supervisor: work in the background that is given up, and errors in a line."""

from __future__ import annotations

import asyncio


def first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


async def give_up(work: asyncio.Task[None] | None) -> None:
    """Cancel a task and wait for its end, whatever that is. (Awaiting it could not tell its end from our own.)"""
    if work is not None and not work.done():
        work.cancel()
        await asyncio.wait([work])
