"""report/report.html: everything that is known of an export on one self-contained page. Same reports, same bytes.

The page is a function of the JSON reports: `export` writes it with them, and every job that changes one calls `refresh`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fpga_squeeze.emit import writer
from fpga_squeeze.emit.render import static_file
from fpga_squeeze.errors import InputError
from fpga_squeeze.hardware.fabric import NAMES
from fpga_squeeze.report import html_text
from fpga_squeeze.report.html_cards import cards
from fpga_squeeze.report.html_layers import layer_rows, shown_layers, weakest
from fpga_squeeze.report.html_matrix import matrix
from fpga_squeeze.report.html_pipeline import NARROW, WIDE, pipeline_svg
from fpga_squeeze.report.html_stage import bottleneck_stage, panels
from fpga_squeeze.report.html_tables import block_rows, budget_parts, configuration, sample_cards

PAGE = "report/report.html"
NEEDED = ("memory_budget", "resources", "performance", "layers", "machine", "histograms", "samples")
OPTIONAL = ("accuracy", "verification", "synthesis")


def refresh(out: Path) -> Path | None:
    """Write OUT/report/report.html anew from the reports that are there; its path, or None for an export without the reports that the page needs.

    Jobs call this after they wrote a report. Raises InputError when a report is damaged.
    """
    manifest = writer.read_manifest(out)
    if manifest is None or not all((out / "report" / f"{name}.json").is_file() for name in NEEDED):
        return None
    options = manifest["options"]
    writer.write_file(out, PAGE, render(read_reports(out), options if isinstance(options, dict) else {}))
    return out / PAGE


def read_reports(out: Path) -> dict[str, Any]:
    """The reports of an export by name; an optional one that is not there is None.

    Raises InputError, naming the file, when a needed report is missing or any is damaged.
    """
    found: dict[str, Any] = {}
    for name in (*NEEDED, *OPTIONAL):
        path = out / "report" / f"{name}.json"
        try:
            found[name] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            if name in NEEDED:
                raise InputError(f"{path}: not found; export again") from error
            found[name] = None
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read as JSON ({error}); run again what wrote it") from error
    return found


def from_files(files: Mapping[str, bytes]) -> dict[str, Any]:
    """The same out of a build plan that is not written yet: relative path -> content."""
    return {name: json.loads(files[path]) if (path := f"report/{name}.json") in files else None for name in (*NEEDED, *OPTIONAL)}


def render(reports: dict[str, Any], options: Mapping[str, Any]) -> bytes:
    """The page. `reports`: by name, parsed; `options`: of the manifest."""
    from fpga_squeeze.report import html_charts  # Altair takes a third of a second to import: not on every command's way

    machine, performance, memory = reports["machine"], reports["performance"], reports["memory_budget"]
    slowest = bottleneck_stage(performance)
    stages = [s["name"] for s in machine["stages"]]
    engines = [s for s in performance["stages"] if s["multipliers"]]
    layers = layer_rows(reports)
    packing = html_charts.packing_chart(memory["rows"], stages)
    context = {
        "title": str(options.get("model", "model")), "about": configuration(options, reports), "cards": cards(reports), "machine": machine,
        "pipeline_wide": Markup(pipeline_svg(machine, slowest, WIDE)), "pipeline_narrow": Markup(pipeline_svg(machine, slowest, NARROW)),
        "slowest": slowest, "panels": panels(reports), "budget": budget_parts(memory), "blocks": block_rows(reports), "resource_names": NAMES,
        "memory_chart": Markup(html_charts.memory_chart(memory["rows"], stages)), "packing_chart": Markup(packing) if packing else None,
        "cycles_chart": Markup(html_charts.cycles_chart(machine["stages"], machine["interval_cycles"], slowest)),
        "multipliers_chart": Markup(html_charts.multipliers_chart(engines)) if engines else None, "performance": performance, "engines": engines,
        "accuracy": reports["accuracy"], "sqnr_chart": Markup(html_charts.sqnr_chart(shown_layers(reports))), "layers": layers, "weakest": weakest(layers),
        "layer_images": (reports["accuracy"] or {}).get("count") or reports["layers"]["images"], "histogram_images": reports["histograms"]["images"],
        "matrix": matrix(reports["verification"], stages), "verification": reports["verification"], "samples": sample_cards(reports["samples"]),
        "assumptions": list(options.get("assumptions", [])),
    }  # fmt: skip
    return page("report.html.jinja", context)


def page(template: str, context: Mapping[str, Any]) -> bytes:
    """A template of templates/report/ with the shared style and script, as UTF-8."""
    style, script = (Markup(static_file(f"report/{name}").decode()) for name in ("style.css", "page.js"))
    return _environment().get_template(f"report/{template}").render(style=style, script=script, **context).encode()


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("fpga_squeeze.templates", ""), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    for name in ("count", "size", "rate", "percent", "shape", "slug"):
        environment.filters[name] = getattr(html_text, name)
    return environment
