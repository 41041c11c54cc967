from __future__ import annotations

import json
from typing import Any

async def test_nothing_runs(runtimes: Any, jp_fetch: Any) -> None:
    answer = await jp_fetch("nbcompose", "api", "services")
    print(json.loads(answer.body))
