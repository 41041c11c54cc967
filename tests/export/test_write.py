"""Scripts, as text and as they run."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest

from nbcompose._export.formatting import ruff_command
from nbcompose._export.freeze import store
from nbcompose._export.script import ExportedScript, exported_from, write
from nbcompose._export.slice import Slice
from nbcompose.errors import ExportRefused
from tests.export.slices import installed, sliced
from tests.serve_process import serving

IMPORTS = """\
# What everything here is made of.
import json, math
from collections.abc import Iterator

from nbcompose import api, depends
"""

HELPERS = """\
# How sure we want to be,
# from 0 to 1.
LEAST = 0.5
MOST = 1.0

def half(number):
    return number/2    # not rounded
"""

COUNTER = """\
class Counter:
    '''Counts.'''

    @api(batchable=True)
    def count(self, texts: list[str]) -> list[float]:
        import math

        # Letters only.
        return [half(len(text)) for text in texts]
"""

ANSWER = """\
# The one that is asked.
class Answer:
    counter = depends(Counter)

    @api
    def ask(self, text: str) -> str:
        [count] = self.counter.count([text])
        return json.dumps({"count": count, "sure": count > LEAST})

    @api
    def spell(self, text: str) -> Iterator[str]:
        yield from text
"""

GOLDEN = '''\
# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "nbcompose==0.1.0",
# ]
# ///
"""The services of quickstart.ipynb, without Jupyter (exported by nbcompose)."""

# What everything here is made of.
import json
from collections.abc import Iterator

import nbcompose
from nbcompose import api, depends, service

# How sure we want to be,
# from 0 to 1.
LEAST = 0.5
MOST = 1.0


def half(number):
    return number / 2  # not rounded


@service(device="cpu", threads=2)
class Counter:
    """Counts."""

    @api(batchable=True)
    def count(self, texts: list[str]) -> list[float]:
        import math  # noqa: F401

        # Letters only.
        return [half(len(text)) for text in texts]


# The one that is asked.
@service
class Answer:
    counter = depends(Counter)

    @api
    def ask(self, text: str) -> str:
        [count] = self.counter.count([text])
        return json.dumps({"count": count, "sure": count > LEAST})

    @api
    def spell(self, text: str) -> Iterator[str]:
        yield from text


if __name__ == "__main__":
    nbcompose.serve(Answer)
'''

GRAPH = {"Counter": {"device": "cpu", "threads": 2}, "Answer": {}}

JUPYTER = ("IPython", "ipykernel", "jupyter", "nbformat", "nbconvert", "ipywidgets", "anywidget", "traitlets")
RUN_WITHOUT_JUPYTER = """
import importlib.abc, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.startswith({names!r}):
            raise ImportError(name + " is not for scripts")

sys.meta_path.insert(0, Blocked())
sys.path.insert(0, ".")
import app
{code}
"""


def graph() -> Slice:
    return sliced(IMPORTS, HELPERS, COUNTER, ANSWER, services=GRAPH, entries=["Answer"])


def script(*cells: str, **options: object) -> ExportedScript:
    """A script of cells whose one service is `Answer`, of a %%service cell, if nothing else is said."""
    options.setdefault("services", {"Answer": {}})
    return write(sliced(*cells, **options), "notebook.ipynb", look_up=installed(numpy="2.0"))  # type: ignore[arg-type]


def code_of(script: ExportedScript) -> str:
    """What follows the docstring."""
    return script.text.split('(exported by nbcompose)."""\n\n')[1]


def again(script: ExportedScript, services: list[str], entries: list[str]) -> ExportedScript:
    """The script of a script."""
    body = ast.parse(script.text).body
    kept = script.text.split("\n")[body[0].end_lineno : body[-1].lineno - 1]
    cells = sliced("\n".join(kept), services=dict.fromkeys(services), entries=entries)
    return write(cells, exported_from(script.text) or "", look_up=installed(numpy="2.0"))


def ruff(*arguments: str, text: str) -> subprocess.CompletedProcess[str]:
    command = [*ruff_command(), *arguments, "--isolated", "--line-length=120", "-"]
    here = Path(__file__).parent  # in this repository's root, nbcompose would be a module of the user's own
    return subprocess.run(command, input=text, cwd=here, capture_output=True, text=True, check=False)


def without_jupyter(folder: Path, code: str) -> str:
    program = RUN_WITHOUT_JUPYTER.format(names=JUPYTER, code=code)
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# -- the whole


def test_a_script() -> None:
    written = write(graph(), "quickstart.ipynb", look_up=installed())
    assert written.text == GOLDEN
    assert written.notes == ()


def test_it_is_clean() -> None:
    assert ruff("check", "--select=E4,E7,E9,F,I", text=GOLDEN).stdout == "All checks passed!\n"
    assert ruff("format", text=GOLDEN).stdout == GOLDEN


def test_the_script_of_a_script_is_the_same() -> None:
    first = write(graph(), "quickstart.ipynb", look_up=installed())
    assert again(first, ["Counter", "Answer"], ["Answer"]).text == first.text


def test_nobodys_configuration_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ruff.toml").write_text('line-length = 40\nformat.quote-style = "single"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUFF_LINE_LENGTH", "40")
    assert write(graph(), "quickstart.ipynb", look_up=installed()).text == GOLDEN


@pytest.mark.system
def test_it_runs_without_jupyter(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(GOLDEN)
    printed = without_jupyter(tmp_path, "a = app.Answer(); print(a.ask('four'), *a.spell('ab'))")
    assert printed == '{"count": 2.0, "sure": true} a b'


def test_several_entries() -> None:
    written = script(
        "from nbcompose import api",
        "class A:\n    @api\n    def f(self): ...",
        "class B:\n    @api\n    def f(self): ...",
        services={"A": {}, "B": {}},
    )
    assert written.text.endswith('if __name__ == "__main__":\n    nbcompose.serve(A, B)\n')


def test_notes_of_the_slice_are_kept() -> None:
    written = script("from nbcompose import api", ANSWERS, notes=["cell 4: `!ls` is not part of the script"])
    [note] = written.notes
    assert note.startswith("cell 4: `!ls` ")


@pytest.mark.parametrize(
    ("line", "noted"),
    [
        ("os.environ['API_KEY'] = 'sk-1'", True),
        ("os.environ.update(API_KEY='sk-1')", True),
        ("os.environ.setdefault('API_KEY', 'sk-1')", True),
        ("os.environ['API_KEY'] = open('key').read()", False),
        ("os.environ['MODE'] = 'fast'", False),
    ],
)
def test_a_secret_in_the_environment_is_pointed_out(line: str, noted: bool) -> None:
    note = "the value of API_KEY (os.environ) is in the script: set it where the script is started instead"
    assert script(f"import os\nfrom nbcompose import api\n{line}", ANSWERS).notes == ((note,) if noted else ())


@pytest.mark.parametrize(
    ("line", "noted"),
    [
        ("there = depends(url='http://x', token='s3cret')", "token"),
        ("client = Client(api_key='s3cret')", "api_key"),
        ("OPENAI_API_KEY = 's3cret'", "OPENAI_API_KEY"),
        ("client.password = 's3cret'", "password"),
        ("client = Client(api_key=os.environ['KEY'])", ""),
        ("tokenizer = Tokenizer(pad_token='<pad>', eos_token='</s>')", ""),
        ("client = Client(token='')", ""),
    ],
)
def test_a_secret_in_the_code_is_pointed_out(line: str, noted: str) -> None:
    head = (
        "import os\nfrom nbcompose import api, depends\nfrom types import SimpleNamespace as Client\nTokenizer = Client"
    )
    used = ANSWERS.replace("return", "used = (client, there, tokenizer, OPENAI_API_KEY)\n        return")
    before = "client = there = tokenizer = OPENAI_API_KEY = None"
    notes = script(head, before, line, used).notes
    note = f"the value of {noted} is in the script: read it from the environment instead, with os.environ"
    assert [n for n in notes if "is in the script" in n] == ([note] if noted else [])


def test_files_beside_the_notebook_are_pointed_out(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text("[]")
    cell = "from nbcompose import api\nopen('rows.json'), open('rows.json'), open('made.json', 'w'), ''"
    needed = sliced(cell, ANSWERS, services={"Answer": None})
    assert write(needed, "a.ipynb", look_up=installed(), folder=tmp_path).notes == (
        "rows.json is looked for where the script is started: start it in a folder that has it",
    )


def test_a_secret_in_the_options_is_pointed_out() -> None:
    written = script(
        "from nbcompose import api", ANSWERS, services={"Answer": {"envs": {"HF_TOKEN": "hf_1", "A": "1"}}}
    )
    assert written.notes == (
        "the value of HF_TOKEN (--env) is in the script: set it where the script is started instead",
    )


# -- the docstring


@pytest.mark.parametrize("name", ["app.ipynb", 'a "quoted" \\ name.ipynb', 'three """.ipynb', "ein Würfel.ipynb"])
def test_a_script_says_where_it_is_from(name: str) -> None:
    written = write(graph(), name, look_up=installed())
    assert exported_from(written.text) == name
    assert again(written, ["Counter", "Answer"], ["Answer"]).text == written.text


@pytest.mark.parametrize("text", ["", "x = 1", '"""The services of mine."""', "not Python"])
def test_other_files_do_not(text: str) -> None:
    assert exported_from(text) is None


# -- imports

ANSWERS = """\
class Answer:
    @api
    def ask(self) -> int:
        return VALUE
"""


def head(*cells: str, **options: object) -> str:
    """What is above the service."""
    return code_of(script(*cells, **options)).partition("\n\n\n")[0]


def test_imports_are_merged_and_sorted() -> None:
    cells = [
        "from nbcompose import depends\nimport zlib",
        "import zlib\nfrom nbcompose import api\nimport ast as tree",
        "VALUE = zlib.crc32(b''), tree, depends",
    ]
    assert head(*cells, ANSWERS) == (
        "import ast as tree\nimport zlib\n\nimport nbcompose\nfrom nbcompose import api, depends, service\n\n"
        'VALUE = zlib.crc32(b""), tree, depends'
    )


def test_names_that_nothing_needs_are_left_out() -> None:
    cells = [
        "# Of use here and there.\nfrom nbcompose import (\n    api,\n    depends,\n)\nimport os, sys\nimport zlib",
        "VALUE = sys.path",
    ]
    assert head(*cells, ANSWERS) == (
        "import sys\n\nimport nbcompose\n\n# Of use here and there.\nfrom nbcompose import api, service\n\n"
        "VALUE = sys.path"
    )


def test_future_imports_come_first_and_attempts_stay_whole() -> None:
    cells = [
        "import json",
        "try:\n    import orjson\nexcept ImportError:\n    orjson = None",
        "from __future__ import annotations\nfrom nbcompose import api",
        "VALUE = orjson or json",
    ]
    assert head(*cells, ANSWERS) == (
        "from __future__ import annotations\n\nimport json\n\nimport nbcompose\nfrom nbcompose import api, service\n\n"
        "try:\n    import orjson\nexcept ImportError:\n    orjson = None\n\nVALUE = orjson or json"
    )


def test_modules_of_the_users_own_are_a_group_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "zoo_helpers.py").write_text("import json, numpy\nVALUE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    written = write(
        sliced(
            "import zoo_helpers\nfrom nbcompose import api\nVALUE = zoo_helpers.VALUE", ANSWERS, services={"Answer": {}}
        ),
        "notebook.ipynb",
    )
    assert "import nbcompose\nfrom nbcompose import api, service\n\nimport zoo_helpers\n" in written.text
    assert '#     "numpy==' in written.text
    assert written.requirements.own == ("zoo_helpers.py",)
    [note] = written.notes
    assert note.startswith("zoo_helpers.py ")


def test_a_name_that_means_two_imports_is_refused() -> None:
    cells = ["from nbcompose import api\nfrom json import dumps", "import zlib\nfrom pickle import dumps", ANSWERS]
    with pytest.raises(ExportRefused) as refused:
        script(*cells, "VALUE = dumps, zlib")
    assert str(refused.value) == (
        "the services cannot be exported:\n"
        "  cell 2, line 2: dumps is pickle.dumps here, and json.dumps in cell 1, line 2: "
        "give one of them another name, `import ... as ...`"
    )


# -- the environment

ENVIRONMENT = """\
import json
# Where things are.
import os, sys
from nbcompose import api

# Read when they are imported.
os.environ["HF_HOME"] = str(7)
os.environ.setdefault("HF_HUB_OFFLINE", "1")
VALUE = json, sys
"""


def test_libraries_find_the_environment_that_the_notebook_sets() -> None:
    written = script(ENVIRONMENT, ANSWERS)
    assert code_of(written).partition("\n\n\n")[0] == (
        "# Where things are.\nimport os\n\n"
        '# Read when they are imported.\nos.environ["HF_HOME"] = str(7)\n'
        'os.environ.setdefault("HF_HUB_OFFLINE", "1")\n\n'
        "import json\nimport sys\n\nimport nbcompose\nfrom nbcompose import api, service\n\n"
        "VALUE = json, sys"
    )
    assert written.notes == ()
    assert ruff("check", "--select=E4,E7,E9,F,I", text=written.text).returncode == 0
    assert again(written, ["Answer"], ["Answer"]).text == written.text


def test_an_environment_that_depends_on_values_comes_after_them_with_a_note() -> None:
    cells = ["from os import environ as env\nfrom nbcompose import api", 'VALUE = "1"\nenv["A"] = VALUE']
    written = script(*cells, ANSWERS)
    assert head(*cells, ANSWERS).endswith('\n\nVALUE = "1"\nenv["A"] = VALUE')
    assert written.notes == (
        "cell 2, line 2: the script sets this after its imports: if a library reads it when it is imported, "
        "set it where the script is started",
    )


# -- the template


@pytest.mark.system
def test_the_template_can_be_served() -> None:
    with serving("nbcompose._export.template", "--port", "0") as served:
        assert httpx.post(f"{served.url}/greet", json={}).json() == "hello"


# -- names for what is ours


@pytest.mark.parametrize(
    ("imports", "decorator", "serve"),
    [
        ("from nbcompose import api", "@service", "nbcompose.serve"),
        ("from nbcompose import api, service as svc; VALUE = svc", "@svc", "nbcompose.serve"),
        ("import nbcompose as bentoml; api = bentoml.api", "@bentoml.service", "bentoml.serve"),
        ("import nbcompose.models; api = nbcompose.api", "@nbcompose.service", "nbcompose.serve"),
        ("import nbcompose as nb; from nbcompose import api; VALUE = nb", "@service", "nb.serve"),
        ("from nbcompose import api; service = VALUE = 3", "@nbcompose.service", "nbcompose.serve"),
        ("from nbcompose import api; nbcompose = VALUE = 3", "@service", "nbcompose_.serve"),
        ("from nbcompose import api, service; service = VALUE = 3", "@nbcompose.service", "nbcompose.serve"),
        ("from nbcompose import api; service = nbcompose = VALUE = 3", "@nbcompose_.service", "nbcompose_.serve"),
        ("from nbcompose import api; import json as nbcompose; VALUE = nbcompose", "@service", "nbcompose_.serve"),
    ],
)
def test_names_of_the_notebook_are_kept(imports: str, decorator: str, serve: str) -> None:
    written = script(imports.replace("; ", "\n"), ANSWERS)
    assert f"\n{decorator}\nclass Answer:\n" in written.text
    assert written.text.endswith(f"    {serve}(Answer)\n")
    names = {"api": lambda f: f, "__name__": "app"}
    compile(written.text, "app.py", "exec")
    exec(written.text, names)
    assert type(names["Answer"]).__name__ == "Service"
    assert again(written, ["Answer"], ["Answer"]).text == written.text


# -- what the user's own lines break


@pytest.mark.parametrize(
    ("line", "marked"),
    [
        ("l = VALUE", "l = VALUE  # noqa: E741"),
        ("f = lambda: VALUE", "f = lambda: VALUE  # noqa: E731"),
        ("if VALUE == None: VALUE = 2", "if VALUE == None:  # noqa: E711\n    VALUE = 2"),
    ],
)
def test_lines_that_break_a_rule_are_marked_and_stay(line: str, marked: str) -> None:
    written = script("from nbcompose import api\nVALUE = 1", line, ANSWERS)
    assert f"VALUE = 1\n\n{marked}\n" in written.text
    assert ruff("check", "--select=E4,E7,E9,F,I", text=written.text).returncode == 0
    assert again(written, ["Answer"], ["Answer"]).text == written.text


# -- layout


def test_neighbours_stay_neighbours() -> None:
    cells = ["from nbcompose import api", "A = 1\n# of B\nB = 2\n\nC = 3", "VALUE = A + B + C"]
    assert head(*cells, ANSWERS).endswith("\n\nA = 1\n# of B\nB = 2\n\nC = 3\n\nVALUE = A + B + C")


def test_what_is_not_formatted_in_the_notebook_ends_where_it_ends_there() -> None:
    cells = [
        "from nbcompose import api",
        "# fmt: off\nA = [1,0,\n     0,1]\n# fmt: on",
        "B = [ ]\n# fmt: off\nC = [ ]",
        "# fmt: off\nD = [ ]\n# fmt: on\nVALUE = [ ]",
        "# fmt: off\nE = [ ]",
    ]
    written = script(*cells, ANSWERS)
    assert head(*cells, ANSWERS).partition("service\n\n")[2] == (
        "# fmt: off\nA = [1,0,\n     0,1]\n# fmt: on\n\nB = []\n# fmt: off\nC = [ ]\n# fmt: on\n\n"
        "# fmt: off\nD = [ ]\n# fmt: on\nVALUE = []\n\n# fmt: off\nE = [ ]\n# fmt: on"
    )
    assert again(written, ["Answer"], ["Answer"]).text == written.text


# -- frozen values


@pytest.mark.system
def test_frozen_values_are_loaded_from_beside_the_script(tmp_path: Path) -> None:
    data = tmp_path / "app_data"
    frozen = [
        store("LABELS", ["good", "bad"], data),
        store("VECTORS", np.eye(2), data),
        store("LIMITS", {1, 2}, data),
        store("SIZE", (1, 2), data),
    ]
    cells = sliced(
        "from nbcompose import api\nimport numpy",
        "class Answer:\n    @api\n    def ask(self) -> str:\n"
        "        return f'{LABELS[0]} {VECTORS.sum()} {LIMITS} {SIZE}'",
        services={"Answer": {}},
        frozen=["LABELS", "VECTORS", "LIMITS", "SIZE"],
    )
    written = write(cells, "notebook.ipynb", frozen=frozen, look_up=installed(numpy="2.0"))
    assert code_of(written).partition("\n\n\n")[0] == (
        "import json\nimport pickle\nfrom pathlib import Path\n\n"
        "import nbcompose\nimport numpy\nfrom nbcompose import api, service\n\n"
        'LABELS = json.loads((Path(__file__).parent / "app_data" / "LABELS.json").read_text(encoding="utf-8"))\n'
        'VECTORS = numpy.load(Path(__file__).parent / "app_data" / "VECTORS.npy", allow_pickle=False)\n'
        "# This is a pickle: loading it runs what is in it, so take it from a source that you trust only.\n"
        'LIMITS = pickle.loads((Path(__file__).parent / "app_data" / "LIMITS.pickle").read_bytes())\n'
        "SIZE = (1, 2)"
    )
    assert '#     "numpy==2.0",\n' in written.text
    assert written.notes == (
        "app_data/LIMITS.pickle is a pickle, which runs code when it is loaded: trust it as you trust code",
    )
    (tmp_path / "app.py").write_text(written.text)
    assert without_jupyter(tmp_path, "print(app.Answer().ask())") == "good 2.0 {1, 2} (1, 2)"
    assert again(written, ["Answer"], ["Answer"]).text == written.text


def test_frozen_values_do_not_take_names_of_the_notebook(tmp_path: Path) -> None:
    frozen = [store("json", [1], tmp_path / "app_data")]
    written = write(
        sliced("from nbcompose import api\nPath = json", ANSWERS, services={"Answer": {}}),
        "notebook.ipynb",
        frozen=frozen,
        look_up=installed(),
    )
    assert "import json as json_\nimport pathlib\n" in written.text
    assert 'json = json_.loads((pathlib.Path(__file__).parent / "app_data" / "json.json").' in written.text
