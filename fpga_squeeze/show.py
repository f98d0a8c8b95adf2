"""Results as text: what each command prints when --json is not asked for."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from fpga_squeeze import jobs, pipeline, terminal
from fpga_squeeze.config import ExportConfig
from fpga_squeeze.hardware.devices import load_devices
from fpga_squeeze.hardware.fabric import NAMES
from fpga_squeeze.pipeline import ExportResult
from fpga_squeeze.quantize.mixed import LayerWidth, Widths
from fpga_squeeze.report.whatif import WhatIf
from fpga_squeeze.synth.show import summary as synthesis_line
from fpga_squeeze.terminal import bytes_text, console, table
from fpga_squeeze.verify.checks import Verification, VerifyOptions
from fpga_squeeze.zoo import embedded_images, embedded_model_path

if TYPE_CHECKING:
    from fpga_squeeze.train.loop import TrainResult

DEMO_FRAMES = 10
DEMO_FPS = 20_000.0
"""Fast enough for a machine with real parallelism although the network is tiny."""


def export_json(result: ExportResult) -> dict[str, object]:
    """The export's outcome in one object."""
    return {
        "out": str(result.out),
        "arch": result.loaded.arch,
        "classes": result.loaded.classes,
        "assumptions": list(result.loaded.assumptions),
        "calibration": {"used": int(result.images.pixels.shape[0]), "skipped": [{"file": p.name, "reason": r} for p, r in result.images.skipped]},
        "memory": result.budget.to_json(),
        "performance": result.performance.to_json(),
        "resources": result.resources.to_json(),
        "files": result.files,
        "weight_budget": result.widths.to_json() if result.widths else None,
    }


def export_text(result: ExportResult) -> None:
    """Assumptions, calibration, memory, speed, where to look."""
    out = console()
    out.print("Assumed, where the weights do not say (each has an option):")
    for line in result.loaded.assumptions:
        out.print(f"  - {line}")
    for path, reason in result.images.skipped:
        terminal.warn(f"calibration image {path.name} skipped: {reason}")
    skipped = f", {len(result.images.skipped)} skipped" if result.images.skipped else ""
    if result.loaded.prescribed is not None:
        out.print("Number formats: as the model brings them along.")
    else:
        out.print(f"Calibrated on {result.images.pixels.shape[0]} images{skipped}.")
    if result.widths is not None:
        widths_table(result.widths)
    budget = result.budget
    kinds = ", ".join(f"{kind.replace('_', ' ')} {bytes_text(count)}" for kind, count in budget.by_kind.items())
    share = 100 * budget.total_bytes / budget.budget_bytes
    out.print(f"Memory: {bytes_text(budget.total_bytes)} of {bytes_text(budget.budget_bytes)} on chip ({share:.1f}%): {kinds}.")
    if result.resources.device is not None:
        shares = ", ".join(f"{used:,} of {have:,} {NAMES[name]}" for name, used, have in result.resources.shares() if have)
        out.print(f"Device {result.resources.device.name}, by the model: {shares}.")
    speed = result.performance
    out.print(
        f"Predicted: {speed.fps:.1f} frames/s at {speed.clock_mhz:g} MHz ({speed.interval_cycles:,} cycles between frames, slowest {speed.bottleneck}), "
        f"{speed.multipliers} multipliers, MAC efficiency {speed.mac_efficiency:.3f}."
    )
    if speed.device_limit_fps is not None:
        limit = f"{100 * speed.fps / speed.device_limit_fps:.0f}% of what all DSP blocks of the device could do"
        gap = f"; no machine of this kind is proven to be more than {100 * result.resources.gap:.1f}% faster" if speed.bound_cycles else ""
        out.print(f"That is {limit}{gap}.")
    if any(e.loaded for s in result.plan.stages for e in s.engines):
        out.print("Weights are loaded after reset: send rtl/weights/load.bin to s_load_axis (docs/loading.md).")
    out.print(f"Wrote {result.files} files to {result.out}; look at {result.out / 'report/memory_budget.md'} and {result.out / 'hls'}.")
    out.print(f"Open {result.out / 'report/report.html'} in a browser for all of it on one page.")
    out.print(f"Next: fpga-squeeze verify {result.out}")


def _how(row: LayerWidth) -> str:
    words = ("given" if row.given else "", "codebook" if row.codebook else "", "zeros left out" if row.pruned else "")
    return ", ".join(word for word in words if word)


def widths_table(widths: Widths) -> None:
    """The width chosen for every layer, what it takes and what it does to the answer."""
    out = console()
    rows = [
        (row.name, row.bits, _how(row), f"{row.weights:,}", f"{-(-row.stored_bits // 8):,}",
         "" if row.divergence is None else f"{row.divergence:.2g}")
        for row in widths.layers
    ]  # fmt: skip
    heads = ("layer", "bits", "", "weights", "bytes", "nats")
    out.print(table("Width of every layer, and the divergence that it alone causes", heads, rows, right=(1, 3, 4, 5)))
    total = -(-widths.weight_bits // 8)
    if widths.activations:
        out.print(f"Weights: {total:,} bytes, {widths.average_bits:.2f} bits on average; with everything else at most {widths.limit_bytes:,}.")
        out.print("Activation bits: " + ", ".join(f"{row.tensor} {row.bits}" for row in widths.activations) + ".")
    else:
        out.print(f"Weights: {total:,} bytes of {widths.limit_bytes:,}, {widths.average_bits:.2f} bits on average.")
    if widths.drop is not None:
        lost, error, same = widths.drop.top1, widths.drop.error, widths.drop.agreement
        out.print(
            f"Expected to lose {lost:.2f} points of top-1 (standard error {error:.2f}) and to name the same class as float on {same:.1f}% of images "
            "(docs/mixed-precision.md)."
        )


def simulate_text(result: jobs.SimulateResult) -> None:
    """One table an image."""
    out = console()
    for prediction in result.images:
        rows = [(rank, index, label or "", f"{total:,}") for rank, (index, label, total) in enumerate(prediction.top, start=1)]
        out.print(table(prediction.file, ("rank", "class", "label", "sum"), rows, right=(0, 1, 3)))
        out.print()


def verify_text(result: Verification) -> None:
    """Stages x implementations: the count of values that were equal, or what differs."""
    out = console()
    out.print(verification_table(result.to_json()))
    for row in result.checks:
        if not row.ok:
            out.print(f"DIFFERS {row.describe()}")
    for fault in result.faults:
        out.print(f"FAULT {fault}")
    if result.rtl is not None:
        out.print(rtl_line(result.rtl.to_json()))
    compared = sum(row.compared for row in result.checks)
    wrong = sum(row.mismatches for row in result.checks)
    verdict = "equal, bit by bit" if result.ok else f"NOT equal: {wrong:,} values differ" if wrong else "NOT proven, see above"
    out.print(f"{compared:,} values of {result.frames} frames compared: {verdict}.")


def rtl_line(rtl: dict[str, Any]) -> str:
    """Cycles of an RTL simulation: interval measured beside predicted, latency, frames a second, the fullest FIFO."""
    if rtl["latency_cycles"] is None:
        return f"{rtl['simulator']}: no frame came out."
    parts = [f"{rtl['simulator']}: first frame after {rtl['latency_cycles']:,} cycles"]
    if rtl["interval_cycles"]:
        parts.append(
            f"{rtl['interval_cycles']:,} cycles between frames ({rtl['predicted_interval_cycles']:,} predicted), "
            f"{rtl['fps']:.1f} frames/s at {rtl['clock_mhz']:g} MHz, MAC efficiency {rtl['mac_efficiency']:.3f}"
        )
    if rtl["fifos"]:
        full = max(rtl["fifos"], key=lambda f: f["high_water"] / f["depth"])
        parts.append(f"fullest FIFO {full['link']}: {full['high_water']} of {full['depth']} beats")
    return "; ".join(parts) + "."


def verification_table(body: dict[str, Any]) -> Table:
    """The table of a verification.json."""
    checks = body["checks"]
    names = list(dict.fromkeys(c["implementation"] for c in checks))
    stages = list(dict.fromkeys(c["stage"] for c in checks))
    cells = {(c["stage"], c["implementation"]): c for c in checks}

    def cell(stage: str, name: str) -> str:
        check = cells.get((stage, name))
        if check is None:
            return "-"
        if not check["compared"]:
            return "NOTHING compared"
        return f"{check['compared']:,} equal" if not check["mismatches"] else f"{check['mismatches']:,} of {check['compared']:,} differ"

    rows = [(stage, *(cell(stage, name) for name in names)) for stage in stages]
    return table("Verification: values compared with the golden simulator", ("stage", *names), rows, right=range(1, len(names) + 1))


def evaluate_text(result: jobs.EvaluationReport) -> None:
    """Accuracy side by side and the per-layer SQNR."""
    body: dict[str, Any] = result.to_json()
    out = console()
    _accuracy(body)
    if body.get("layers"):
        rows = [(layer["name"], f"{layer['sqnr_db']:.1f}") for layer in body["layers"]]
        out.print(table("Signal to quantization noise", ("layer", "SQNR dB"), rows, right=(1,)))
    for item in body.get("skipped", []):
        terminal.warn(f"image {item['file']} skipped: {item['reason']}")


def _accuracy(body: dict[str, Any]) -> None:
    rows = [(name, f"{body[name]['top1']:.1f}", f"{body[name]['top5']:.1f}") for name in ("float", "fixed")]
    out = console()
    out.print(table(f"Accuracy on {body['count']} images, percent", ("", "top-1", "top-5"), rows, right=(1, 2)))
    out.print(f"Fixed and float name the same class on {body['agreement_top1']:.1f}% of the images.")


def report_text(folder: Path, body: dict[str, Any]) -> None:
    """What is known of an export; what was not run says so."""
    out = console()
    memory = body["memory_budget"]
    if memory:
        rows = [(kind.replace("_", " "), f"{count:,}") for kind, count in memory["by_kind"].items()]
        rows.append(("total", f"{memory['total_bytes']:,}"))
        rows.append(("budget", f"{memory['budget_bytes']:,}"))
        out.print(table("Memory on chip, bytes", ("kind", "bytes"), rows, right=(1,)))
        out.print(f"{memory['bram18']} 18 Kb blocks, {memory['uram']} URAM; every row: {folder / 'report/memory_budget.md'}\n")
    speed = body["performance"]
    if speed:
        _performance(speed)
    if body["resources"]:
        _resources(body["resources"])
    if body["accuracy"]:
        _accuracy(body["accuracy"])
    else:
        out.print(f"Accuracy: not measured; run fpga-squeeze evaluate {folder} IMAGES")
    out.print()
    if body["verification"]:
        out.print(verification_table(body["verification"]))
        if body["verification"].get("rtl"):
            out.print(rtl_line(body["verification"]["rtl"]))
    else:
        out.print(f"Verification: not run; run fpga-squeeze verify {folder}")
    out.print(f"Synthesis: {synthesis_line(body['synthesis'])}" if body["synthesis"] else f"Synthesis: not run; run fpga-squeeze synth {folder}")


def _performance(speed: dict[str, Any]) -> None:
    out = console()
    rows = []
    for s in speed["stages"]:
        fold = f"{s['p_oc']} x {s['p_ic']} x {s['p_k']} x {s['p_px']}" if s["multipliers"] else ""
        packing = s["packing"] if s["packing"] != "none" else ""
        mark = " <" if s["stage"] == speed["bottleneck"] else ""
        efficiency = f"{s['mac_efficiency']:.3f}" if s["multipliers"] else ""
        rows.append((s["name"], f"{s['macs']:,}", s["multipliers"], f"{s['cycles']:,}{mark}", f"{100 * s['utilisation']:.0f}%", efficiency, fold, packing))
    heads = ("stage", "MACs", "multipliers", "cycles", "busy", "efficiency", "P_oc x P_ic x P_k x P_px", "packed")
    out.print(table("Performance (< the slowest stage)", heads, rows, right=range(1, 6)))
    lines = [("predicted", speed)] + ([("measured in RTL", speed["measured"])] if speed["measured"] else [])
    rows2 = [
        (name, f"{s['interval_cycles']:,}", f"{s['latency_cycles']:,}", f"{s['fps']:.1f}", f"{s['mac_efficiency']:.3f}") for name, s in lines
    ]
    heads2 = (f"at {speed['clock_mhz']:g} MHz", "cycles between frames", "first frame, cycles", "frames/s", "MAC efficiency")
    out.print(table("Machine", heads2, rows2, right=range(1, 5)))
    if speed["device_limit"]:
        limit = speed["device_limit"]
        out.print(f"{100 * limit['share']:.0f}% of the {limit['fps']:.0f} frames/s that all DSP blocks of the device could do, busy every cycle.")
    for name, board in sorted(speed.get("build", {}).items()):
        out.print(f"Board {name}: {board['fmax_mhz']:.1f} MHz after place and route, {board['fps']:.1f} frames/s at {board['clock_mhz']:g} MHz.")
    out.print()


def _resources(body: dict[str, Any]) -> None:
    out = console()
    names = [n for n in NAMES if body["device"] is None or body["device"]["available"][n]]
    rows = [(row["stage"], *(f"{row[n]:,}" for n in names)) for row in body["stages"]]
    rows.append(("whole machine", *(f"{body['used'][n]:,}" for n in names)))
    title = "Resources, by the model"
    if body["device"]:
        title += f", on {body['device']['name']}"
        rows.append(("allowed", *(f"{body['device']['allowed'][n]:,}" for n in names)))
        rows.append(("available", *(f"{body['device']['available'][n]:,}" for n in names)))
    out.print(table(title, ("stage", *(NAMES[n] for n in names)), rows, right=range(1, len(names) + 1)))
    out.print()


def what_if_text(result: WhatIf) -> None:
    """Devices against frame rates: the fastest machine, and which rates it reaches."""
    out = console()
    rows = []
    for row in result.rows:
        if row.found is None:
            rows.append((row.device.name, ", ".join(row.device.boards), "does not fit", *("" for _ in range(5 + len(result.rates)))))
            continue
        shares = [(getattr(row.found.resources, n), getattr(row.device, n)) for n in NAMES]
        rows.append((
            row.device.name, ", ".join(row.device.boards), f"{row.fps:,.0f}", *(f"{100 * used / have:.0f}%" if have else "-" for used, have in shares),
            *("yes" if row.fps >= rate else "-" for rate in result.rates),
        ))  # fmt: skip
    heads = ("device", "boards", "frames/s", "DSP", "BRAM", "URAM", "LUT", "FF", *(f"{rate:g}" for rate in result.rates))
    title = f"The fastest machine on each device at {result.clock_mhz:g} MHz, {100 * result.utilisation:g}% utilisation; frame rates it reaches"
    out.print(table(title, heads, rows, right=range(2, len(heads))))
    for row in result.rows:
        if row.found is None:
            out.print(f"{row.device.name}: {row.reason}")


def devices_text(as_json: bool) -> None:
    """The device table."""
    devices = load_devices()
    if as_json:
        terminal.print_json({"devices": [asdict(d) for d in devices]})
        return
    rows = [(d.name, ", ".join(d.boards), f"{d.lut:,}", f"{d.ff:,}", f"{d.dsp:,}", d.bram18, d.uram, f"{d.memory_bits / 1e6:.2f}") for d in devices]
    console().print(table("Devices", ("name", "boards", "LUT", "FF", "DSP", "18 Kb blocks", "URAM", "Mb"), rows, right=range(2, 8)))


def train_text(result: dict[str, Any]) -> None:
    """Where the weights are and how good they are."""
    console().print(
        f"Trained {result['epochs']} epochs on {result['train_count']:,} digits: {result['accuracy_percent']:.1f}% of {result['test_count']:,} held-out digits "
        f"are right. Weights: {result['file']}"
    )


def train_folder_text(result: TrainResult) -> None:
    """What was trained, how good it is, and what to do with it."""
    last = result.rows[-1]
    out = console()
    head = "a new conv10" if result.new_head else "the given conv10"
    out.print(
        f"Trained {result.arch} ({result.parameters:,} parameters, {head}, {len(result.classes)} classes) for {last.epoch} epochs "
        f"on {result.train_count:,} images: loss {last.train_loss:.4f}, top-1 {last.train_top1:.2f}%."
    )
    if last.val_top1 is not None and last.val_top5 is not None:
        out.print(f"Validation on {result.val_count:,} images: top-1 {last.val_top1:.2f}%, top-5 {last.val_top5:.2f}%.")
    if result.processes > 1:
        out.print(f"{result.processes} processes; each hands in {result.bytes_per_step:,} bytes of gradients a step.")
    out.print(f"Model: {result.model} (fpga-squeeze export takes it); log and checkpoint beside it.")


def demo(folder: Path, as_json: bool = False) -> bool:
    """Export, evaluate, simulate and verify the embedded network; True when everything was equal."""
    if as_json:
        return _demo_json(folder)
    out = console()
    out.print("1. Export: the embedded digit network (a small SqueezeNet trained on real handwritten digits) becomes an accelerator.")
    with terminal.progress_bars() as progress:
        result = _demo_export(folder, progress)
    export_text(result)
    out.print("\n2. Accuracy: float and fixed point on 100 digits that neither training nor calibration saw.")
    with terminal.progress_bars() as progress:
        accuracy = jobs.evaluate(folder, embedded_images("test"), None, None, progress)
    _accuracy(accuracy.to_json())
    out.print(f"\n3. C simulation of the generated HLS C++ on {DEMO_FRAMES} digits, every stage against the simulator.")
    with terminal.progress_bars() as progress:
        proof = jobs.verify(folder, VerifyOptions(hls=True), progress)
    verify_text(proof)
    if proof.ok:
        out.print(f"\nProven: the C++ in {folder / 'hls'} computes the very integers of the simulator, at every stage.")
        out.print(f"Open {demo_page(folder)}")
        out.print("Then try your own: fpga-squeeze export model.pt --calibration images/ -o out")
    return proof.ok


def demo_page(folder: Path) -> str:
    """Which file to look at, and what is in it: the report page where there is one."""
    if (folder / "report/report.html").is_file():
        return f"{folder / 'report/report.html'} in a browser: size, speed, accuracy and proof on one page."
    return f"{folder / 'report/memory_budget.md'} (every bit on chip) and {folder / 'hls/squeezenet.cpp'} (the dataflow graph)."


def _demo_export(folder: Path, progress: pipeline.Progress) -> ExportResult:
    config = ExportConfig(golden_frames=DEMO_FRAMES, target_fps=DEMO_FPS)
    return pipeline.export(embedded_model_path(), folder, str(embedded_images("calibration")), config, progress=progress)


def _demo_json(folder: Path) -> bool:
    with terminal.progress_bars() as progress:
        exported = export_json(_demo_export(folder, progress))
        accuracy = jobs.evaluate(folder, embedded_images("test"), None, None, progress)
        proof = jobs.verify(folder, VerifyOptions(hls=True), progress)
    terminal.print_json({"ok": proof.ok, "export": exported, "accuracy": accuracy.to_json(), "verification": proof.to_json()})
    return proof.ok
