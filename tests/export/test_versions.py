"""Imports → distributions with their versions, here and in other interpreters."""

from __future__ import annotations

import ast
import json
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import pytest

import nbcompose
from nbcompose._export import requirements as versions
from nbcompose._export.lookup import look_up
from nbcompose._export.requirements import Import, Requirement, Requirements, imports_of, requirements
from nbcompose.errors import NbcomposeError
from tests.export.slices import installed
from tests.optional import needs as needs_module

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


class Site:
    """A folder with distributions, made up, on this interpreter's path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, name: str, version: str = "1.0", *files: str, direct: Any = None) -> None:
        about = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (about / "RECORD").write_text("".join(f"{file},,\n" for file in [*files, f"{about.name}/METADATA"]))
        if direct is not None:
            (about / "direct_url.json").write_text(json.dumps(direct))
        for file in files:
            (self.folder / file).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / file).write_text("")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return Site(folder)


def lines(*names: str, **more: Any) -> list[str]:
    """The requirements of a script with these imports, nbcompose left out."""
    found = needs(names, **more)
    return [d.requirement for d in found.dependencies if not d.requirement.startswith("nbcompose==")]


def needs(names: Sequence[str], **more: Any) -> Requirements:
    return requirements([Import(name) for name in names], **more)


# -- what is imported


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("import a, b.c as d", ["a", "b.c"]),
        ("from a.b import c, d", ["a.b.c", "a.b.d"]),
        ("from . import a\nfrom .b import c", []),
        ("class A:\n    def f(self):\n        import a", ["a"]),
        ("if x:\n    import a\nelse:\n    import b", ["a", "b"]),
        ("import importlib\nx = importlib.import_module('a.b')", ["importlib", "a.b"]),
        ("x = import_module(name)", []),
        ("x = __import__('a')", ["a"]),
    ],
)
def test_imports_of_code(code: str, names: list[str]) -> None:
    assert list(imports_of(ast.parse(code))) == [Import(name) for name in names]


@pytest.mark.parametrize(
    ("code", "engine"), [("pd.read_parquet('a')", "pyarrow"), ("x = df[0].to_excel('a')", "openpyxl")]
)
def test_what_pandas_reads_files_with_is_needed_where_it_is_installed(code: str, engine: str) -> None:
    assert list(imports_of(ast.parse(code))) == [Import(engine, optional=True)]


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("from nbcompose.llms import OpenAIModel as M", ["nbcompose.llms.OpenAIModel", "openai"]),
        ("from nbcompose.llms import TextGenerator, Usage",
         ["nbcompose.llms.TextGenerator", "nbcompose.llms.Usage", "transformers"]),
        ("x = nbcompose.llms.OpenAIModel(url)", ["openai"]),
        ("x = other.OpenAIModel(url)", []),
    ],
)  # fmt: skip
def test_what_classes_of_ours_import_is_needed(code: str, names: list[str]) -> None:
    assert list(imports_of(ast.parse(code))) == [Import(name) for name in names]


@pytest.mark.parametrize(
    ("handler", "optional"),
    [("ImportError", True), ("(KeyError, ModuleNotFoundError)", True), ("", True), ("KeyError", False)],
)
def test_an_import_that_may_fail(handler: str, optional: bool) -> None:
    code = f"try:\n    import a\nexcept {handler}:\n    a = None"
    assert list(imports_of(ast.parse(code))) == [Import("a", optional)]


# -- the block


def test_the_block() -> None:
    found = needs(["torch.nn", "numpy", "json"], look_up=installed(torch="2.13.0+cpu", numpy="2.4.6"))
    assert found.block == (
        "# /// script\n"
        '# requires-python = ">=3.11"\n'
        "# dependencies = [\n"
        '#     "nbcompose==0.1.0",\n'
        '#     "numpy==2.4.6",\n'
        '#     "torch==2.13.0",\n'
        "# ]\n"
        "# ///\n"
    )
    assert found.notes == ()


@pytest.mark.parametrize(
    "found",
    [
        Requirements("3.11", (Requirement("nbcompose==0.1.0"),)),
        Requirements("3.12", (Requirement("a==1", 'why "not"'), Requirement("b @ https://c/d")), comment="not ] known"),
    ],
)
def test_the_block_is_what_pep_723_says(found: Requirements) -> None:
    first, *inner, last = found.block.splitlines()
    assert (first, last) == ("# /// script", "# ///")
    assert all(line.startswith("# ") for line in inner)
    data = tomllib.loads("\n".join(line.removeprefix("# ") for line in inner))
    assert data == {
        "requires-python": f">={found.python}",
        "dependencies": [d.requirement for d in found.dependencies],
    }


def test_what_transformers_runs_on_is_needed_too() -> None:
    known = installed(transformers="5.0", torch="2.13.0")
    assert needs(["transformers.pipeline"], look_up=known).dependencies[1:] == (
        Requirement("torch==2.13.0", "transformers runs its models with it"),
        Requirement("transformers==5.0"),
    )
    assert Requirement("torch==2.13.0") in needs(["transformers", "torch"], look_up=known).dependencies
    assert lines("transformers", look_up=installed(transformers="5.0")) == ["transformers==5.0"]
    assert lines("json", look_up=known) == []


# -- what is installed here


def test_what_is_installed_here() -> None:
    found = needs(["numpy", "json", "nbcompose.models.HuggingFaceModel"])
    assert found.python == PYTHON
    assert [d.requirement for d in found.dependencies] == [
        f"nbcompose=={nbcompose.__version__}",
        f"numpy=={numpy.__version__}",
    ]


def test_a_module_of_another_name(site: Site) -> None:
    site.install("Beautiful-Zoo", "2.1+local.7", "zoo4/__init__.py")
    assert lines("zoo4.animals") == ["Beautiful-Zoo==2.1"]


def test_a_namespace_that_several_share(site: Site) -> None:
    site.install("cloud-storage", "1.0", "zoocloud/storage/__init__.py", "zoocloud/storage/v1/__init__.py")
    site.install("cloud-core", "3.0", "zoocloud/core.py", "zoocloud/storage/extra/__init__.py")
    assert lines("zoocloud.storage.Client") == ["cloud-storage==1.0"]
    assert lines("zoocloud.core.f") == ["cloud-core==3.0"]
    assert lines("zoocloud.storage.extra.x") == ["cloud-core==3.0"]
    assert needs(["zoocloud.storage.Client"]).notes == ()


def test_a_module_that_belongs_to_two(site: Site) -> None:
    site.install("zoo-python", "1.0", "zoo2/__init__.py")
    site.install("zoo-python-headless", "1.1", "zoo2/__init__.py")
    found = needs(["zoo2.f"])
    assert found.dependencies[1:] == (Requirement("zoo-python==1.0"),)
    assert found.notes == ("zoo2 belongs to zoo-python and zoo-python-headless here: the script asks for zoo-python",)


def test_one_from_a_repository_is_asked_for_as_it_is(site: Site) -> None:
    vcs = {"vcs": "git", "commit_id": "0123abc"}
    site.install("zoo", "1.0", "zoo/__init__.py", direct={"url": "https://example.org/zoo", "vcs_info": vcs})
    site.install("bar", "1.0", "bar.py", direct={"url": "https://example.org/bar.whl", "archive_info": {}})
    found = needs(["zoo", "bar"])
    assert [d.requirement for d in found.dependencies] == [
        "bar @ https://example.org/bar.whl",
        f"nbcompose=={nbcompose.__version__}",
        "zoo @ git+https://example.org/zoo@0123abc",
    ]
    assert found.notes == ()


def test_so_is_nbcompose_itself() -> None:
    def look_up(names: list[str], distributions: list[str]) -> dict[str, Any]:
        about = {"nbcompose": {"version": "1.0", "url": "git+https://example.org/nbcompose@0123abc"}}
        return {"python": [3, 11], "modules": {}, "distributions": about}

    assert needs([], look_up=look_up).dependencies == (
        Requirement("nbcompose @ git+https://example.org/nbcompose@0123abc"),
    )


def test_one_from_a_folder_is_pinned_with_a_note(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    (project / "zoo").mkdir(parents=True)
    (project / "zoo" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(project)  # what an editable install comes to
    site.install("zoo-tools", "1.0", direct={"url": project.as_uri(), "dir_info": {"editable": True}})
    found = needs(["zoo.animals"])
    assert found.dependencies[1:] == (Requirement("zoo-tools==1.0"),)
    assert found.own == ()
    assert found.notes == (
        f"zoo-tools is installed from {project.as_uri()}: the script asks the package index for zoo-tools==1.0",
    )


def test_one_that_is_not_installed() -> None:
    assert needs(["zoo.animals"]).notes == (
        "no distribution with a module zoo is installed here: add the one that it comes from to the script's "
        "dependencies",
    )
    assert requirements([Import("zoo", optional=True)]).notes == ()
    assert len(requirements([Import("zoo", optional=True), Import("zoo")]).notes) == 1


# -- modules of the user's own


def test_modules_of_the_users_own_and_what_they_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "zoo.py").write_text("import zoopark.gates, json")
    (tmp_path / "zoopark" / "deep").mkdir(parents=True)
    (tmp_path / "zoopark" / "__init__.py").write_text("from . import gates")
    (tmp_path / "zoopark" / "deep" / "__init__.py").write_text("import zoo, numpy")
    (tmp_path / "zoopark" / "broken.py").write_text("import (")
    monkeypatch.syspath_prepend(tmp_path)
    found = needs(["zoo"])
    assert found.own == ("zoo.py", "zoopark")
    assert [d.requirement.partition("==")[0] for d in found.dependencies] == ["nbcompose", "numpy"]
    assert found.notes == (
        "zoo.py is a module of yours: it must lie beside the script",
        "zoopark is a module of yours: it must lie beside the script",
    )


@pytest.mark.system
def test_modules_beside_the_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "zoo.py").write_text("import numpy")
    (tmp_path / "zoopark").mkdir()
    (tmp_path / "zoopark" / "__init__.py").write_text("")
    there = versions.of_interpreter(sys.executable)  # which does not look into folders
    assert needs(["zoo", "zoopark.gates"], look_up=there, folder=tmp_path).own == ("zoo.py", "zoopark")
    monkeypatch.chdir(tmp_path)
    found = needs(["zoo", "zoopark.gates"], look_up=there)
    assert found.own == ("zoo.py", "zoopark")
    assert [d.requirement.partition("==")[0] for d in found.dependencies] == ["nbcompose", "numpy"]


def test_a_module_without_a_distribution_among_installed_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "zoo.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sysconfig.get_path", lambda kind: str(tmp_path))
    assert look_up(["zoo"], [])["modules"] == {"zoo": {"distributions": [], "file": ""}}


@pytest.mark.parametrize(
    ("script", "note"),
    [
        ("app.py", ""),
        ("notebook.py", ""),  # installed, but not with what a script needs
        (
            "here/concurrent.py",
            "concurrent.py has the name of a module of Python's own, which it hides: call the script something else",
        ),
        (
            "numpy.py",
            "numpy.py has the name of a module that it imports, which it hides: call the script something else",
        ),
        (
            "httpx.py",
            "httpx.py has the name of a module that nbcompose imports, which it hides: call the script something else",
        ),
        (
            "nbcompose.py",
            "nbcompose.py has the name of a module that it imports, which it hides: call the script something else",
        ),
    ],
)
def test_a_name_that_hides_a_module(script: str, note: str) -> None:
    assert versions.hidden_by(script, "import nbcompose\nfrom numpy.linalg import norm\n") == note


# -- other environments


@pytest.mark.system
def test_another_interpreter_is_asked() -> None:
    there = versions.of_interpreter(sys.executable)
    assert needs(["numpy", "transformers", "json"], look_up=there) == needs(["numpy", "transformers", "json"])


@pytest.mark.system
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("#!/bin/sh\nexit 1\n", "CalledProcessError"),
        ("#!/bin/sh\necho it is broken >&2\nexit 1\n", "it is broken"),
        (None, "FileNotFoundError"),
    ],
)
def test_one_that_cannot_be_asked(script: str | None, reason: str, tmp_path: Path) -> None:
    python = tmp_path / "python"
    if script is not None:
        python.write_text(script)
        python.chmod(0o755)
    with pytest.raises(NbcomposeError) as failed:
        needs(["numpy"], look_up=versions.of_interpreter(str(python)))
    assert str(failed.value) == f"{python} does not say what is installed there: {reason}"


@needs_module("transformers")
@needs_module("torch")
def test_without_versions() -> None:
    found = needs(["transformers", "numpy"], look_up=versions.unpinned("the kernel is not on this machine"))
    assert [d.requirement for d in found.dependencies] == ["nbcompose", "numpy", "torch", "transformers"]
    assert "# # the kernel is not on this machine\n" in found.block
