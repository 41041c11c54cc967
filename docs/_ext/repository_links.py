"""Pages that are also read in the repository (README, SECURITY, architecture) link to its files: those become URLs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

ROOT = Path(__file__).parents[2]
FILES = "https://github.com/nbcompose/nbcompose/blob/main/"


class RepositoryLinks(SphinxTransform):
    """Runs before references are resolved."""

    default_priority = 5

    def apply(self, **_: Any) -> None:
        here = Path(self.env.doc2path(self.env.docname)).parent
        for link in list(self.document.findall(addnodes.download_reference)):
            target = Path(os.path.normpath(here / link.get("reftarget", "")))
            inside = target.is_relative_to(ROOT) and not target.is_relative_to(ROOT / "docs")
            if inside and target.exists():
                url = FILES + target.relative_to(ROOT).as_posix()
                link.replace_self(nodes.reference("", "", *link.children, refuri=url))


def setup(app: Any) -> dict[str, Any]:
    app.add_transform(RepositoryLinks)
    return {"parallel_read_safe": True}
