"""Where a person opens the page of a service: through the Jupyter server, wherever that is reached, if it can."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import quote, urlsplit

from jupyter_core.paths import jupyter_runtime_dir

from nbcompose._ipython_adapter import kernel_id
from nbcompose._protocol import address


def page(service: str, url: str) -> str:
    """Return the address of the page of a service that answers at `url`.

    Through the server that has started this kernel, if that has the extension; only a path on a hub that does not say
    by which name it is reached. Otherwise below `url`.
    """
    base, kernel = _server_url(), kernel_id()
    if not base or not kernel:
        return f"{url}/docs"
    return f"{base.rstrip('/')}/nbcompose/at/{quote(kernel, safe='')}/{quote(service, safe='')}/docs"


def _server_url() -> str:
    """Return the address of the server that has started this kernel; "" where it cannot pass requests on."""
    parent = os.environ.get("JPY_PARENT_PID", "")
    if not parent.isdecimal() or int(parent) not in address.listeners():
        return ""  # without the extension, or on another machine
    for name in ("JUPYTERHUB_PUBLIC_URL", "JUPYTERHUB_SERVICE_PREFIX"):
        if told := os.environ.get(name):
            return told
    try:
        said = json.loads(Path(jupyter_runtime_dir(), f"jpserver-{parent}.json").read_text(encoding="utf-8"))
        url = said["url"]
        return url if urlsplit(url).scheme in ("http", "https") else ""
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return ""
