"""What "Copy for" gives: values come back as they were, by Python, a shell and Node."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest

from nbcompose._notebook.graph import assets

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(shutil.which("node") is None, reason="no node to run the front end's modules"),
]

VALUES: dict[str, Any] = {
    "text": 'it\'s a "test" {x} {{y}} $HOME $$5 $x.y \\n\n\t€ 𝄞 \u2028 `ls` !s ?',
    "nothing": None,
    "flags": [True, False, None],
    "nested": {"a": {"b": [{"c": 1.5e300, "d": -2}]}, "$": "{$text}"},
}


def copied(kind: str, template: str, values: dict[str, Any], kinds: dict[str, str] | None = None) -> str:
    params = [{"name": name, "kind": (kinds or {}).get(name, "keyword_only")} for name in values]
    form = {"params": params, "copies": {kind: template}}
    module = str(assets.STATIC / "src" / "copying.js")
    code = (
        f"const m = await import({module!r});"
        f"process.stdout.write(m.copied({json.dumps(form)}, {kind!r}, {json.dumps(values)}));"
    )
    done = subprocess.run(["node", "--input-type=module", "-e", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_python() -> None:
    assert eval(copied("python", "dict(%(arguments)s)", VALUES)) == VALUES
    assert eval(copied("script", "%(dict)s", VALUES)) == VALUES


def test_python_of_parameters_that_take_many() -> None:
    kinds = {"a": "positional_or_keyword", "rest": "var_positional", "more": "var_keyword"}
    values = {"a": 1, "rest": [2, 3], "more": {"b": "x"}}
    assert copied("python", "f(%(arguments)s)", values, kinds) == 'f(1, *[2, 3], **{"b": "x"})'
    assert copied("python", "f(%(arguments)s)", {"a": 1, "more": {}}, kinds) == "f(a=1, **{})"


def test_a_line_of_a_shell() -> None:
    line = copied("terminal", "printf %%s %(shell)s".replace("%%", "%"), VALUES)
    assert "\n" not in line
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == VALUES


def test_javascript() -> None:
    code = copied("javascript", "process.stdout.write(JSON.stringify(%(json)s))", VALUES)
    done = subprocess.run(["node", "--input-type=module", "-e", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == VALUES


def test_a_file_is_its_base64_outside_and_left_out_in_python() -> None:
    upload = {"data": {"$upload": {"name": "x", "type": "", "data": "eHh4"}}}
    assert copied("script", "%(dict)s", upload) == '{"data": "eHh4"}'
    assert copied("python", "f(%(arguments)s)", upload) == "f(data=...)"
