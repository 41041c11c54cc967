"""The OpenAPI document in the hands of others: what code generators make of it calls the service, and a fuzzer finds no
answer that the document rules out.
"""

from __future__ import annotations

import importlib
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typed_services import Typed

from nbcompose import Service, errors
from tests.conftest import Running
from tests.handles import handle
from tests.patience import PATIENCE

pytestmark = pytest.mark.system

BIN = Path(sys.executable).parent
NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
SCRIPTS = Path(__file__).resolve().parents[1] / "export/golden"
OPENAPI_TYPESCRIPT = "openapi-typescript@7.13.0"
TYPESCRIPT = "typescript@5.9.3"


def tool(*command: str, cwd: Path) -> str:
    """What a program says; it has to end well."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=2 * PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def url(running: Running) -> str:
    running.up(Typed)
    return running.registry.url("Typed")


@pytest.fixture
def document(url: str, tmp_path: Path) -> Path:
    path = tmp_path / "openapi.json"
    path.write_text(httpx.get(f"{url}/openapi.json").text)
    return path


@pytest.fixture
def importing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose modules can be imported."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [n for n in sys.modules if n.partition(".")[0] in ("typed_client", "typed_models")]:
        del sys.modules[name]


def test_openapi_python_client(url: str, document: Path, importing: Path) -> None:
    command = ("generate", "--path", str(document), "--meta", "none", "--output-path", str(importing / "typed_client"))
    tool(str(BIN / "openapi-python-client"), *command, cwd=importing)
    modules = [path for path in (importing / "typed_client/api/typed").glob("*.py") if path.stem != "__init__"]
    for path in modules:
        # https://github.com/openapi-generators/openapi-python-client/issues/1451: with several kinds of bodies
        text = path.read_text()
        path.write_text(text.replace("types import UNSET, ", "types import UNSET, Unset, "))
    made = {path.stem for path in modules}
    assert {api.name for api in handle(Typed).spec.apis} - made == {"data"}  # it knows no recursive unions
    models = importlib.import_module("typed_client.models")

    with importlib.import_module("typed_client.client").Client(url) as client:

        def call(api: str, body: Any) -> Any:
            return importlib.import_module(f"typed_client.api.typed.{api}").sync(client=client, body=body)

        assert call("td", models.TdArguments(td=models.TD(seed=1))) == models.TD(seed=1)
        point = call("point", models.PointArguments(point=models.Point(x=3.0, y=4.0), factor=2.0))
        assert (point.x, point.y, point.size) == (6.0, 8.0, 14.0)
        [first] = call("points", models.PointsArguments(points=[models.Point(x=1.0)]))
        assert (type(first), first.size) == (models.PointOutput, 1.0)
        assert call("root", models.BoxInt(value=5)) == models.BoxInt(value=5)
        assert call("plain", models.PlainArguments(a="x")) == "x"
        assert call("bounded", models.BoundedArguments()) == 4
        assert call("batch", models.BatchArguments()) == [1, 2]
        assert call("choices", models.ChoicesArguments(color=models.Color.RED)) == models.Color.RED
        assert call("tree", models.TreeArguments(tree=models.Tree(name="a"))).name == "a"
        assert call("numbers", models.NumbersArguments(x=1.0)) is None
        assert isinstance(call("bounded", models.BoundedArguments(n=9)), models.Error)
        files = importlib.import_module("typed_client.types")
        form = models.FilesForm(file=files.File(payload=io.BytesIO(b"12345"), file_name="a.bin"))
        assert call("files", form) == 5


def test_datamodel_code_generator(url: str, document: Path, importing: Path) -> None:
    command = ["--input", str(document), "--input-file-type", "openapi", "--output", str(importing / "typed_models.py")]
    command += ["--output-model-type", "pydantic_v2.BaseModel", "--formatters", "builtin"]
    tool(str(BIN / "datamodel-codegen"), *command, cwd=importing)
    models = importlib.import_module("typed_models")

    def call(api: str, arguments: Any) -> Any:
        answer = httpx.post(f"{url}/{api}", json=arguments.model_dump(mode="json", exclude_unset=True))
        return answer.raise_for_status().json()

    assert models.TD(**call("td", models.TdArguments(td=models.TD(seed=1)))) == models.TD(seed=1)
    arguments = models.PointArguments(point=models.Point(x=3.0, y=4.0))
    assert models.PointOutput(**call("point", arguments)) == models.PointOutput(x=3.0, y=4.0, size=7.0)
    pet = models.PetsArguments(pet=models.Cat(kind="cat", lives=8))
    assert models.Cat(**call("pets", pet)) == models.Cat(kind="cat", lives=8)
    assert call("data", models.DataArguments(data={"a": ["b", None]})) == {"a": ["b", None]}
    with pytest.raises(ValueError, match="less than or equal to 5"):
        models.BoundedArguments(n=9)


@pytest.mark.skipif(shutil.which("npx") is None, reason="no Node.js, and so no npx, on this machine")
def test_openapi_typescript(document: Path, tmp_path: Path) -> None:
    cache = ("npm_config_update_notifier=false",)
    try:
        tool("env", *cache, "npx", "--yes", OPENAPI_TYPESCRIPT, str(document), "-o", "schema.d.ts", cwd=tmp_path)
    except AssertionError as error:
        if any(code in str(error) for code in ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH")):
            pytest.skip("npm reaches no registry from this machine")
        raise
    (tmp_path / "use.ts").write_text(
        'import type { components, operations } from "./schema";\n'
        'export const point: components["schemas"]["Point"] = { x: 1, y: 2 };\n'
        'type Body = operations["point"]["requestBody"]["content"]["application/json"];\n'
        "export const body: Body = { point, factor: 2 };\n"
        'type Answer = operations["points"]["responses"][200]["content"]["application/json"];\n'
        "export const size = (answer: Answer): number | null => answer[0].size;\n"
        'export const td: components["schemas"]["TD"] = { seed: 1 };\n'
    )
    # `Json`, which is an alias of a union with itself, is nothing that TypeScript can say: only the use is checked.
    strict = ("--noEmit", "--strict", "--skipLibCheck", "use.ts")
    tool("env", *cache, "npx", "--yes", "-p", TYPESCRIPT, "tsc", *strict, cwd=tmp_path)


# schemathesis 4.32 writes the schemas of tuples in answers in the words of an older draft, and then refuses them.
CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance")
SHAPES = "response_schema_conformance"

CONFIGURATION = "[checks.not_a_server_error]\nexpected-statuses = {}\n"


def fuzz(url: str, folder: Path, examples: int, phases: str, *allowed: str) -> None:
    """schemathesis on every api: no 5xx but those that are allowed, nothing that the document rules out; the same calls
    in every run.
    """
    document = httpx.get(f"{url}/openapi.json").json()
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    tuples = [o["operationId"] for o in operations if _has_tuple(o["responses"], document)]
    plain = [o["operationId"] for o in operations if o["operationId"] not in tuples]
    (folder / "schemathesis.toml").write_text(CONFIGURATION.format(json.dumps(["2xx", "4xx", *allowed])))
    command = ["--config-file", "schemathesis.toml", "run", f"{url}/openapi.json", "--no-color", "--phases", phases]
    command += ["--max-examples", str(examples), "--generation-deterministic", "--suppress-health-check", "all"]
    command += ["--request-timeout", "60", "-H", "X-Request-Timeout: 5"]
    for names, checks in ((plain, (*CHECKS, SHAPES)), (tuples, CHECKS)):
        if names:
            only = [part for name in names for part in ("--include-operation-id", name)]
            tool(str(BIN / "schemathesis"), *command, "--checks", ",".join(checks), *only, cwd=folder)


def _has_tuple(node: Any, document: Any, seen: tuple[str, ...] = ()) -> bool:
    if isinstance(node, list):
        return any(_has_tuple(part, document, seen) for part in node)
    if not isinstance(node, dict):
        return False
    reference = node.get("$ref")
    if isinstance(reference, str) and reference not in seen:
        target = document["components"]["schemas"][reference.rpartition("/")[2]]
        return _has_tuple(target, document, (*seen, reference))
    return "prefixItems" in node or any(_has_tuple(part, document, seen) for part in node.values())


def test_schemathesis(url: str, tmp_path: Path) -> None:
    fuzz(url, tmp_path, 5, "examples,coverage,fuzzing")
    assert httpx.get(f"{url}/readyz").json() == {"status": "ready"}


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    return {"NBCOMPOSE_PRELOAD": "torch,transformers,transformers.pipelines"}


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.stem)
def test_schemathesis_on_a_notebook(
    running: Running, script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every service of every notebook, by the script that `%export` writes of it.

    Its code refuses texts with an exception of its own, a 500, and a language model may be asked for more than it can
    write in time, a 504: none of the errors may be of ours. A server that a notebook starts beside is not there, a 503.
    """
    shutil.copy(NOTEBOOKS / "passages.json", tmp_path)
    shutil.copy(script, tmp_path / f"fuzzed_{script.name}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module(f"fuzzed_{script.stem}")
    services = [value for value in vars(module).values() if isinstance(value, Service)]
    running.up(*services)
    for service in services:
        fuzz(running.registry.url(service.name), tmp_path, 2, "fuzzing", "500", "503", "504")
        raised = re.findall(r"error [0-9a-f]{12}: (\w+): ", "\n".join(running.registry.logs(service.name, 10_000)))
        assert set(raised) & vars(errors).keys() <= {"DeadlineExceeded", "RemoteError", "ServiceUnavailable"}
