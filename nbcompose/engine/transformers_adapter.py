"""transformers, where more of it is used than its documentation promises: the one module that knows.

Seen to hold from 5.0.0 to 5.24.0; tests/canaries/test_transformers.py fails first where a release changes this.

- The first `from_pretrained` of a process makes a table of how checkpoints are renamed, the same for all models, and
  keeps it. `conversion_mapping.get_checkpoint_conversion_mapping` makes it, too.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any


def fill_caches() -> None:
    """Make what every process makes for itself at its first `from_pretrained`, where transformers is loaded."""
    conversions: Any = sys.modules.get("transformers.conversion_mapping")
    with contextlib.suppress(Exception):  # it only saves memory
        conversions.get_checkpoint_conversion_mapping("")
