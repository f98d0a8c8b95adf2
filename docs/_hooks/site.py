"""mkdocs hook: the order of the pages, and the notebooks as pages. A page that is not written yet is left out; one that is not listed goes to the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

# Section -> pages, in reading order. Titles are the pages' own headings.
ORDER: dict[str, tuple[str, ...]] = {
    "Start": ("index.md", "quick-start.md", "python-api.md", "notebooks/export-and-inspect.md", "notebooks/bits-and-accuracy.md", "commands.md"),
    "The machine": (
        "number-contract.md", "architecture.md", "folding.md", "resources.md", "weight-storage.md", "hls.md", "bypass.md", "formats.md", "family.md",
        "loading.md", "over-the-air.md",
    ),
    "Models in": ("onnx.md", "fine-tuning.md", "quantizer.md", "mixed-precision.md"),
    "Proof": ("accuracy.md", "verification.md", "continuous-integration.md", "report.md"),
    "To a board": (
        "boards.md",
        # From Vitis HLS and Vivado to a PYNQ board; left out of the navigation until the page is there.
        "vivado-pynq.md",
    ),
    "Extend": ("adding-a-device.md", "adding-a-layer.md"),
    "Honest": ("limits-and-comparison.md",),
}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Build the navigation from the pages that exist."""
    docs = Path(config.docs_dir)
    pages = {p.relative_to(docs).as_posix() for p in docs.rglob("*.md") if "_hooks" not in p.parts}
    pages |= {_page_of(p, docs) for p in (docs / "notebooks").glob("*.ipynb")}
    nav: list[dict[str, Any]] = [{title: [page for page in listed if page in pages]} for title, listed in ORDER.items()]
    rest = sorted(pages - {page for listed in ORDER.values() for page in listed})
    config.nav = [section for section in [*nav, {"More": rest}] if next(iter(section.values()))]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Every notebook is also a page: its text and code. Outputs are not kept in the repository; the tests run the notebooks."""
    docs = Path(config.docs_dir)
    for path in sorted((docs / "notebooks").glob("*.ipynb")):
        files.append(File.generated(config, _page_of(path, docs), content=notebook_page(path)))
    return files


def notebook_page(path: Path) -> str:
    """Markdown of a notebook."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    return "\n\n".join([*parts, f"This page is the notebook [{path.name}]({path.name}): open it with Jupyter to run it."]) + "\n"


def _page_of(path: Path, docs: Path) -> str:
    return path.relative_to(docs).with_suffix(".md").as_posix()
