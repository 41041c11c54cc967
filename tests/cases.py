"""Names for the cases of a table."""

from __future__ import annotations

import re


def named(value: object) -> str:
    """As `repr`, the same in every process: those that run tests side by side must agree on what there is to run."""
    return re.sub(r" at 0x[0-9A-Fa-f]+", "", repr(value))
