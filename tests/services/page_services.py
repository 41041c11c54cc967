"""A service with an api for each kind of form and answer that the page at /docs has."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image, ImageOps
from pydantic import BaseModel, Field

from nbcompose import api, service


class Author(BaseModel):
    name: str = Field(min_length=2)
    tags: list[str] = []


class Paper(BaseModel):
    title: str
    author: Author


class Badge(BaseModel):
    label: str
    seal: Image.Image
    model_config = {"arbitrary_types_allowed": True}


@service
class Shown:
    """All kinds."""

    @api
    def cite(self, paper: Paper, year: Annotated[int, Field(ge=1900)] = 2026, note: str | None = None) -> dict:
        """One line."""
        return {"line": f"{paper.author.name}: {paper.title} ({year})", "note": note}

    @api
    def invert(self, picture: Image.Image, name: str = "a") -> Image.Image:
        return ImageOps.invert(picture.convert("RGB"))

    @api
    def sizes(self, files: list[Path], unit: str = "bytes") -> str:
        return ", ".join(f"{len(file.read_bytes())} {unit}" for file in files)

    @api
    def double(self, numbers: np.ndarray) -> np.ndarray:
        return 2 * numbers

    @api
    def stamp(self, badge: Badge) -> str:
        return f"{badge.label}: {badge.seal.size}"

    @api
    def upper(self, text: str = "nothing", /) -> str:
        return text.upper()

    @api
    def count(self, n: int) -> Iterator[int]:
        yield from range(n)
        if n > 3:
            raise ValueError("too far")

    @api
    async def refine(self, text: AsyncIterator[str], style: str = "upper") -> AsyncIterator[str]:
        async for piece in text:
            yield f"{piece.upper() if style == 'upper' else piece} "

    @api
    async def hang(self) -> AsyncIterator[str]:
        yield "begun"
        await asyncio.Event().wait()

    @api
    def even(self, number: int) -> int:
        if number % 2:
            raise ValueError(f"{number} is odd")
        return number
