"""The report page: equal to its reports, self-contained, the same bytes every time, honest about what was not run."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import RunCli

from fpga_squeeze import jobs, pipeline
from fpga_squeeze.config import ExportConfig
from fpga_squeeze.errors import InputError
from fpga_squeeze.report import html, html_matrix
from fpga_squeeze.report.html_cards import cards, fits
from fpga_squeeze.report.html_histogram import histogram_svg
from fpga_squeeze.report.html_pipeline import NARROW, WIDE, pipeline_svg
from fpga_squeeze.verify.checks import VerifyOptions
from fpga_squeeze.zoo import embedded_images, embedded_model_path


def text_of(page: str) -> str:
    """What a reader sees: tags out, space collapsed."""
    body = re.sub(r"<(style|script)>.*?</\1>", " ", page, flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def reports(out: Path) -> dict[str, Any]:
    return html.read_reports(out)


@pytest.fixture
def copy(digits_out: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(digits_out, tmp_path / "out"))


def test_page_of_an_export_is_self_contained_and_repeatable(copy: Path) -> None:
    before = (copy / html.PAGE).read_bytes()
    assert html.refresh(copy) == copy / html.PAGE
    assert (copy / html.PAGE).read_bytes() == before, "a refresh without news must not change a byte"
    page = before.decode()
    assert len(before) < 400_000
    addresses = re.findall(r"""(?:src|href)\s*=\s*["']?([^"' >]+)""", page)
    assert addresses and all(a.startswith(("#", "data:")) for a in addresses), "every address is inside the page"
    assert "url(" not in page and "@import" not in page and "http" not in re.sub(r"http-equiv", "", page)
    assert str(copy.parent) not in page and "Content-Security-Policy" in page


def test_numbers_on_the_page_are_those_of_the_reports(digits_out: Path) -> None:
    page, known = (digits_out / html.PAGE).read_text(), reports(digits_out)
    seen = text_of(page)
    speed, memory = known["performance"], known["memory_budget"]
    for figure in (
        f"{speed['interval_cycles']:,}", f"{speed['macs']:,}", f"{speed['multipliers']:,}", f"{speed['mac_efficiency']:.3f}", f"{speed['latency_cycles']:,}",
        f"{memory['total_bytes'] / 1000:.1f} kB", f"{known['resources']['used']['lut']:,}",
    ):  # fmt: skip
        assert figure in seen, figure
    for stage in known["machine"]["stages"]:
        assert f'id="stage-{stage["name"].replace(".", "-")}"' in page
    for link in known["machine"]["links"]:
        assert f"FIFO of {link['depth']} beats" in page
    for row in memory["rows"]:
        assert row["name"] in seen


def test_what_was_not_run_says_so(digits_out: Path) -> None:
    found = {card.title: card for card in cards(reports(digits_out))}
    assert [found[t].state for t in ("Fits", "Speed", "Accuracy", "Proven")] == ["good", "part", "none", "none"]
    assert found["Proven"].verdict == "Not run" and found["Accuracy"].verdict == "Not measured"
    seen = text_of((digits_out / html.PAGE).read_text())
    assert "Nothing was run yet" in seen and "not measured yet" in seen
    empty = html_matrix.matrix(None, ["conv1"])
    assert [c.text for c in empty.rows[0][1]][2:] == ["not run"] * 4 and not any(c.ran for c in empty.columns)


def verified(compared: int = 10, mismatches: int = 0, *names: str) -> dict[str, Any]:
    checks = [
        {"stage": s, "implementation": n, "compared": compared, "mismatches": mismatches, "first_difference": None}
        for n in names
        for s in ("conv1", "pool1")
    ]
    ok = compared > 0 and not mismatches
    return {"ok": ok, "frames": 1, "checks": checks, "faults": [], "rtl": None, "implementations": {n: {"frames": 1} for n in names}}


@pytest.mark.parametrize(
    ("record", "state", "verdict"),
    [
        (verified(10, 0, "fast", "hls", "verilator"), "good", "Equal, bit by bit"),
        (verified(10, 0, "fast", "hls"), "part", "Equal as far as run"),
        (verified(10, 0, "fast"), "part", "Equal as far as run"),
        (verified(10, 2, "fast", "hls", "verilator"), "bad", "Not equal"),
        (verified(0, 0, "fast", "hls", "verilator"), "bad", "Not equal"),
    ],
)
def test_proven_card_claims_no_more_than_the_record(digits_out: Path, record: dict[str, Any], state: str, verdict: str) -> None:
    known = reports(digits_out)
    known["machine"]["stages"] = [s | {"name": n} for s, n in zip(known["machine"]["stages"], ("conv1", "pool1"), strict=False)]
    known["verification"] = record
    card = cards(known)[3]
    assert (card.state, card.verdict) == (state, verdict)


def test_a_port_alone_proves_no_stage(digits_out: Path) -> None:
    """RTL of another tool is compared at its output only: no claim that every stage was."""
    known = reports(digits_out)
    known["verification"] = verified(10, 0, "fast")
    known["verification"]["checks"].append({"stage": "squeezenet", "implementation": "verilator", "compared": 10, "mismatches": 0})
    assert cards(known)[3].state == "part"


def test_does_not_fit_and_misses_its_target(digits_out: Path) -> None:
    known = reports(digits_out)
    known["memory_budget"]["fits"] = False
    known["performance"]["meets_target"] = False
    fits, speed, _, _ = cards(known)
    assert (fits.state, fits.verdict) == ("bad", "Does not fit") and (speed.state, speed.verdict) == ("bad", "Misses the target")


def test_matrix_counts_and_differences() -> None:
    record = verified(784, 0, "fast", "hls")
    record["checks"][2] |= {"mismatches": 3, "first_difference": {"frame": 0, "channel": 1, "y": 2, "x": 3, "expected": 4, "got": 5}}
    table = html_matrix.matrix(record, ["conv1", "pool1"])
    by_column = dict(zip((c.key for c in table.columns), table.rows[0][1], strict=True))
    assert by_column["fast"].text == by_column["reference"].text == "784"
    assert by_column["hls"].text == "3 of 784 differ" and by_column["hls"].state == "bad" and "4 expected, 5 got" in by_column["hls"].note
    assert by_column["icarus"].text == "not run"
    record["checks"].append({"stage": "conv1", "implementation": "onnxruntime", "compared": 9, "mismatches": 0})
    assert [c.title for c in html_matrix.matrix(record, ["conv1"]).columns][-1] == "onnxruntime", "an implementation of another name gets its column"


def test_verify_and_evaluate_refresh_the_page_and_runs_add_up(copy: Path) -> None:
    jobs.verify(copy, VerifyOptions(hls=True, frames=1))
    page = text_of((copy / html.PAGE).read_text())
    record = json.loads((copy / "report/verification.json").read_text())
    total = sum(c["compared"] for c in record["checks"])
    assert f"{total:,} values compared, 0 differ" in page and "HLS C++, every stage; RTL not run" in page
    result = jobs.evaluate(copy, embedded_images("test"), None, 40)
    page = text_of((copy / html.PAGE).read_text())
    assert f"{result.result.fixed_accuracy.top1:.1f}% top-1, fixed point" in page and "40 images" in page
    assert f"{total:,} values compared" in page, "an evaluation keeps what was verified"
    samples = json.loads((copy / "report/samples.json").read_text())
    assert samples["source"] == "evaluation" and len(samples["images"]) >= 6
    assert all(row["fixed"][0]["sum"] >= row["fixed"][-1]["sum"] for row in samples["images"])
    assert all(row["file"].startswith(f"{row['class']}_") for row in samples["images"])


def test_class_names_at_evaluate(copy: Path, tmp_path: Path, run_cli: RunCli) -> None:
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"digit <{i}> & more" for i in range(10)))
    result = run_cli("evaluate", copy, embedded_images("test"), "--labels", names, "--limit", 8)
    assert result.code == 0, result.err
    page = (copy / html.PAGE).read_text()
    assert "digit &lt;0&gt; &amp; more" in page and "digit <0>" not in page, "names are text, never markup"
    names.write_text("only one\n")
    assert run_cli("evaluate", copy, embedded_images("test"), "--labels", names).code == 2


def test_random_calibration_says_so_instead_of_pictures(tmp_path: Path) -> None:
    pipeline.export(embedded_model_path(), tmp_path / "out", "random", ExportConfig(golden_frames=1))
    page = text_of((tmp_path / "out" / html.PAGE).read_text())
    assert "chosen on random pixels" in page and "Calibration random pixels" in page and "<img" not in (tmp_path / "out" / html.PAGE).read_text()


def test_a_damaged_report_is_named_and_an_older_export_has_no_page(copy: Path) -> None:
    (copy / "report/machine.json").write_text("{")
    with pytest.raises(InputError, match=r"machine\.json: cannot be read as JSON"):
        html.refresh(copy)
    (copy / "report/machine.json").unlink()
    assert html.refresh(copy) is None


def test_a_new_export_forgets_what_was_verified(copy: Path) -> None:
    jobs.verify(copy, VerifyOptions(hls=True, frames=1))
    pipeline.export(embedded_model_path(), copy, str(embedded_images("calibration")), ExportConfig(weight_bits=6))
    assert not (copy / "report/verification.json").exists()
    assert "Nothing was run yet" in text_of((copy / html.PAGE).read_text())


@pytest.mark.parametrize("layout", [WIDE, NARROW])
def test_pipeline_picture_draws_every_link_and_side_links_as_arcs(digits_out: Path, layout: Any) -> None:
    machine = reports(digits_out)["machine"]
    plain = pipeline_svg(machine, "conv1", layout)
    assert plain.count('class="link"') == len(machine["links"]) and plain.count("slowest stage</text>") == 1 and "side" not in plain
    main = machine["links"][2]
    bypass = main | {"producer": "fire2.squeeze", "consumer": "pool2", "name": "fire2_bypass", "side": True, "depth": 77}
    far = main | {"producer": "conv1", "consumer": "conv10", "name": "far_bypass", "side": True}
    picture = pipeline_svg(machine | {"links": [*machine["links"], bypass, far]}, "conv1", layout)
    assert picture.count('class="link side"') == 2 and "77 deep" in picture and picture.count('class="link"') == len(machine["links"])
    assert all(float(x) >= -40 for x in re.findall(r'[ML](-?[\d.]+),', picture))


def test_histograms_count_every_value_and_mark_what_is_clipped(digits_out: Path) -> None:
    known = reports(digits_out)
    graph = pipeline.open_export(digits_out).float_graph
    for layer in known["histograms"]["layers"]:
        body = layer["weights"]
        if body is not None:
            assert sum(body["counts"]) == graph[layer["name"]].op.weight.size  # type: ignore[union-attr]
    clipped = {"low": -2.0, "high": 2.0, "counts": [1] * 64, "format_low": -1.0, "format_high": 0.99, "clipped": 0.5}
    picture = histogram_svg(clipped, "weights")
    inside, outside = (re.search(rf'class="{name}" [^>]*d="([^"]*)"', picture)[1].count("M") for name in ("in", "out"))  # type: ignore[index]
    assert (inside, outside) == (32, 32) and picture.count('class="limit"') == 2 and "50.000% outside" in picture
    whole = histogram_svg(clipped | {"format_low": -3.0, "format_high": 3.0, "clipped": 0.0}, "weights")
    assert re.search(r'class="out" [^>]*d=""', whole)


def test_clipped_weights_are_counted_against_the_integers(digits_out: Path) -> None:
    """The share of histograms.json from its definition: the real weight lies more than half a step beyond the format."""
    opened = pipeline.open_export(digits_out)
    rows = {layer["name"]: layer["weights"] for layer in reports(digits_out)["histograms"]["layers"] if layer["weights"]}
    for name, row in rows.items():
        q, real = opened.qgraph[name].op, opened.float_graph[name].op
        steps = real.weight * np.exp2(q.weight_frac.astype(float))[:, None, None, None]  # type: ignore[union-attr]
        low, high = -(2 ** (q.weight_bits - 1)), 2 ** (q.weight_bits - 1) - 1  # type: ignore[union-attr]
        assert row["clipped"] == pytest.approx(float(((np.abs(steps - np.clip(steps, low, high))) > 0.5).mean()), abs=1e-6), name


def test_the_card_counts_the_blocks_of_the_resource_table() -> None:
    """The memory budget counts the larger of the HLS and the RTL machine, the table the RTL: one page, one number."""
    memory = {"total_bytes": 1000, "budget_bytes": 2000, "bram18": 669, "fits": True}
    resources = {"device": None, "used": {"dsp": 1, "bram18": 659, "uram": 0, "lut": 10, "ff": 10}}
    lines = str(fits(memory, resources, None))
    assert "659 blocks of 18 Kb" in lines and "669" not in lines
