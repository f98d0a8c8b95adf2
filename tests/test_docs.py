"""The docs site: builds strictly and offline, without dead links; the command reference is current; pages name files and functions that exist."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlparse

import pytest
import typer.main
import yaml

from fpga_squeeze import cli

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def hook(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / "_hooks" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(site: Path, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    done = build(folder)
    assert done.returncode == 0, done.stderr
    return folder


class Page(HTMLParser):
    """Links with the element they come from, and the anchors of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[tuple[str, str]] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.append((tag, value))
            if name in ("id", "name") and value:
                self.anchors.add(value)


def problems(site: Path) -> list[str]:
    """Dead links of a built site. External ones are only looked at: nothing may be loaded from elsewhere, and an address must be one."""
    pages = {p: Page(p) for p in sorted(site.rglob("*.html")) if p.name != "404.html"}  # 404.html speaks of the server's root
    found = []
    for path, page in pages.items():
        for tag, link in page.links:
            where = f"{path.relative_to(site)}: <{tag}> {link}"
            parts = urlparse(link)
            if parts.scheme in ("http", "https"):
                if tag != "a":
                    found.append(f"{where}: loaded from elsewhere")
                elif not re.fullmatch(r"[a-z0-9.-]+\.[a-z]{2,}(:\d+)?", parts.netloc):
                    found.append(f"{where}: no address")
                continue
            if parts.scheme or link.startswith("//"):
                found.append(f"{where}: unexpected scheme")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target = target / "index.html"
            if not target.is_file():
                found.append(f"{where}: no such file")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                found.append(f"{where}: no such anchor")
    return found


def test_no_dead_links_and_nothing_from_elsewhere(site: Path) -> None:
    assert problems(site) == []
    assert sum(len(Page(p).links) for p in site.rglob("*.html")) > 500


def test_the_link_checker_finds_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(
        '<h1 id="a">x</h1><a href="#a"></a><a href="#b"></a><a href="gone.html"></a><img src="https://x.org/a.png"><a href="https://nowhere"></a>'
    )
    assert [p.split(": ")[-1] for p in problems(tmp_path)] == ["no such anchor", "no such file", "loaded from elsewhere", "no address"]


def test_every_page_is_in_the_navigation(site: Path) -> None:
    index = Page(site / "index.html")
    linked = {link for tag, link in index.links if tag == "a"}
    pages = {p.relative_to(site).as_posix() for p in site.rglob("*.html")} - {"404.html"}
    assert pages <= linked and len(pages) > 14 and "notebooks/export-and-inspect.html" in pages


def test_strict_build_fails_on_a_dead_link(tmp_path: Path) -> None:
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    with (tmp_path / "docs/quick-start.md").open("a") as page:
        page.write("\n[gone](commands.md#no-such-command)\n")
    done = build(tmp_path / "site", tmp_path)
    assert done.returncode != 0 and "no-such-command" in done.stderr


def test_a_new_page_is_added_without_touching_the_order(tmp_path: Path) -> None:
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    (tmp_path / "docs/another-topic.md").write_text("# Another topic\n")
    (tmp_path / "docs/adding-a-device.md").unlink()
    done = build(tmp_path / "site", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "another-topic.html" in {link for _, link in Page(tmp_path / "site/index.html").links}


def test_command_reference_is_current() -> None:
    commands = hook("commands")
    assert commands.PAGE.read_text() == commands.reference(), "docs/commands.md is out of date: run python docs/_hooks/commands.py"
    text = commands.PAGE.read_text()
    for name, command in typer.main.get_command(cli.app).commands.items():  # type: ignore[attr-defined]
        shown = {o for p in command.params if p.param_type_name == "option" for o in [*p.opts, *p.secondary_opts] if o.startswith("--")}
        section = text.split(f"\n## {name}\n")[1].split("\n## ")[0]
        assert shown <= set(re.findall(r"--[a-z][a-z0-9-]+", section)), name


def test_the_layer_page_names_what_exists() -> None:
    text = (DOCS / "adding-a-layer.md").read_text()
    places = re.findall(r"^\| `([^`]+)`(?:: `([^`]+)`)? \|", text, re.MULTILINE)
    assert len(places) > 25
    for path, name in places:
        assert (ROOT / path).is_file(), path
        assert not name or name in (ROOT / path).read_text(), f"{path}: no {name}"
    for path in re.findall(r"`((?:tests|fpga_squeeze|templates|sim)/[\w./]+\.\w+)`", text):
        assert (ROOT / path).is_file(), path


def test_pages_name_options_that_exist() -> None:
    known = set(re.findall(r"--[a-z][a-z0-9-]+", (DOCS / "commands.md").read_text()))
    for name in ("index", "quick-start", "python-api", "continuous-integration", "adding-a-device", "limits-and-comparison"):
        for line in (DOCS / f"{name}.md").read_text().splitlines():
            if line.startswith("    fpga-squeeze ") or "`--" in line:
                assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", line)) <= known, line


def test_ci_workflow_uses_commands_that_exist_and_only_pip_and_apt() -> None:
    body = yaml.safe_load((DOCS / "ci/fpga-squeeze.yml").read_text())
    steps = body["jobs"]["hardware"]["steps"]
    known = set(re.findall(r"--[a-z][a-z0-9-]+", (DOCS / "commands.md").read_text()))
    lines = [line for step in steps for line in step.get("run", "").splitlines()]
    assert {line.split()[1] for line in lines if line.startswith("fpga-squeeze")} == {"doctor", "export", "verify", "evaluate"}
    for line in lines:
        assert line.split()[0] in ("sudo", "pip", "fpga-squeeze", "python"), line
        if line.startswith("fpga-squeeze"):
            assert set(re.findall(r"--[a-z][a-z0-9-]+", line)) <= known, line
    assert all(step["uses"].startswith("actions/") for step in steps if "uses" in step)


@pytest.mark.parametrize("name", ["export-and-inspect", "bits-and-accuracy"])
def test_notebook_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    # a kernel of this very environment, wherever other kernels are registered
    kernel = tmp_path / "jupyter/kernels/python3"
    kernel.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    notebook = nbformat.read(DOCS / "notebooks" / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs are not kept in the repository"
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
    assert len(outputs) >= 3
    if name == "bits-and-accuracy":
        assert any("image/png" in o.get("data", {}) for o in outputs)
    else:
        assert any("all equal: True" in o.get("text", "") for o in outputs) or shutil.which("g++") is None
