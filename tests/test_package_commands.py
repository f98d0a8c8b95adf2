"""`pack`, `unpack` and `diff` from end to end: the image of an export comes back byte for byte, in Python and in C; every refusal is one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RunCli

from fpga_squeeze import pipeline
from fpga_squeeze.config import ExportConfig
from fpga_squeeze.new_weights import make_weights
from fpga_squeeze.package.build import delta_package, full_package
from fpga_squeeze.package.network import network_of
from fpga_squeeze.package.tasks import MAX_PACKAGE_BYTES, pack
from fpga_squeeze.quantize.qgraph import QConv
from fpga_squeeze.zoo import embedded_images, embedded_model_path
from tests.load_cases import job, lively_tiny, loaded, swap
from tests.package_cases import Case, compile_decoder, run_decoder
from tests.rtl_machines import random_pixels, require, write

IMAGES = str(embedded_images("calibration"))


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """out: the embedded network with a load port; other.pt: a retrained conv10; old.fsq and new.fsq: packages of both."""
    folder = tmp_path_factory.mktemp("field")
    pipeline.export(embedded_model_path(), folder / "out", IMAGES, ExportConfig(target_fps=50_000.0, weights="loaded", golden_frames=1))
    state = torch.load(embedded_model_path(), weights_only=True)
    chance = torch.Generator().manual_seed(5)
    for name in [n for n in state if n.startswith("classifier")]:
        state[name] = state[name] * (1 + 0.1 * torch.randn(state[name].shape, generator=chance))
    torch.save(state, folder / "other.pt")
    pack(folder / "out", folder / "old.fsq", None, None, None, None)
    pack(folder / "out", folder / "new.fsq", folder / "other.pt", IMAGES, None, None)
    return folder


def refusal(run_cli: RunCli, *arguments: object) -> str:
    """The one line of a command that is refused."""
    result = run_cli(*arguments)
    assert result.code == 2 and result.err.count("\n") == 1 and result.err.startswith("fpga-squeeze: error: ") and not result.out, result.err
    return result.err


def test_the_exports_image_comes_back(field: Path, tmp_path: Path, run_cli: RunCli) -> None:
    done = run_cli("unpack", field / "old.fsq", "-o", tmp_path / "load.bin", "--machine", field / "out", "--json")
    image = (field / "out/rtl/weights/load.bin").read_bytes()
    assert done.code == 0 and (tmp_path / "load.bin").read_bytes() == image
    body = json.loads(done.out)
    assert body["bytes"] == len(image) and body["what"] == "image" and body["kind"] == "full" and body["signature"] == "none"


def test_a_delta_of_a_retrained_classifier(field: Path, tmp_path: Path, run_cli: RunCli) -> None:
    done = run_cli("diff", field / "old.fsq", field / "new.fsq", "-o", tmp_path / "d.fsq", "--json")
    body = json.loads(done.out)
    assert done.code == 0 and [row["name"] for row in body["layers"]] == ["conv10"] and body["kind"] == "delta"
    assert body["bytes"] == (tmp_path / "d.fsq").stat().st_size < 1200
    text = run_cli("diff", field / "old.fsq", field / "new.fsq", "-o", tmp_path / "again.fsq")
    assert text.code == 0 and "conv10" in text.out and "at fixed width" in text.out
    assert (tmp_path / "again.fsq").read_bytes() == (tmp_path / "d.fsq").read_bytes(), "same input, same bytes"
    assert run_cli("unpack", tmp_path / "d.fsq", "--base", field / "old.fsq", "-o", tmp_path / "load.bin").code == 0
    made = make_weights(field / "out", field / "other.pt", IMAGES, tmp_path / "made.bin")
    assert (tmp_path / "load.bin").read_bytes() == made.file.read_bytes()
    assert "No layer differs" in run_cli("diff", field / "old.fsq", field / "old.fsq", "-o", tmp_path / "none.fsq").out


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_the_c_decoder_that_pack_writes_restores_both(field: Path, tmp_path: Path, run_cli: RunCli) -> None:
    shown = run_cli("pack", field / "out", "-o", tmp_path / "old.fsq", "--with-decoder", tmp_path / "device" / "ota")
    assert shown.code == 0 and "fsq_unpack.c" in shown.out and (tmp_path / "old.fsq").read_bytes() == (field / "old.fsq").read_bytes()
    assert run_cli("diff", field / "old.fsq", field / "new.fsq", "-o", tmp_path / "d.fsq").code == 0
    image = (field / "out/rtl/weights/load.bin").read_bytes()
    program = compile_decoder(tmp_path, "gcc", sources=tmp_path / "device" / "ota")
    cases = [Case((tmp_path / "old.fsq").read_bytes()), Case((tmp_path / "d.fsq").read_bytes(), base=image, shape=image[4:12])]
    first, second = run_decoder(program, cases)
    assert (first.code, first.image) == (0, image)
    assert run_cli("unpack", field / "new.fsq", "-o", tmp_path / "new.bin").code == 0
    assert (second.code, second.image) == (0, (tmp_path / "new.bin").read_bytes()) and second.image != image


def test_integers_of_a_machine_without_a_load_port(digits_out: Path, tmp_path: Path, run_cli: RunCli) -> None:
    package = tmp_path / "rom.fsq"
    shown = run_cli("pack", digits_out, "-o", package)
    assert shown.code == 0 and "no load port" in shown.out
    assert "without a load port" in refusal(run_cli, "unpack", package, "-o", tmp_path / "load.bin")
    assert "nothing can be loaded" in refusal(run_cli, "pack", digits_out, "-o", package, "--model", embedded_model_path(), "--calibration", IMAGES)
    assert run_cli("unpack", package, "-o", tmp_path / "w.npz", "--integers").code == 0
    with np.load(tmp_path / "w.npz") as arrays:
        for node in pipeline.open_export(digits_out).qgraph.nodes:
            if isinstance(node.op, QConv):
                for leaf in ("weight", "bias", "shift"):
                    assert np.array_equal(arrays[f"{node.name}.{leaf}"], getattr(node.op, leaf)), node.name
    assert not (tmp_path / "load.bin").exists()


def test_refusals_of_files(field: Path, tmp_path: Path, run_cli: RunCli) -> None:
    old, new, bad, out = field / "old.fsq", field / "new.fsq", tmp_path / "bad.fsq", tmp_path / "x.bin"
    assert run_cli("diff", old, new, "-o", tmp_path / "d.fsq").code == 0
    content = old.read_bytes()
    damages = {
        "no package": b"PK\3\4" + content, "cut short": content[:-1], "CRC-32": content[:500] + bytes([content[500] ^ 4]) + content[501:],
        "version": content[:4] + b"\7" + content[5:], "cut short or": b"",
    }  # fmt: skip
    for message, damaged in damages.items():
        bad.write_bytes(damaged)
        for command in (("unpack", bad), ("diff", bad, new), ("diff", old, bad), ("unpack", tmp_path / "d.fsq", "--base", bad)):
            assert message in refusal(run_cli, *command, "-o", out) and not out.exists()
    assert "no such file" in refusal(run_cli, "unpack", tmp_path / "none", "-o", out)
    assert "not a regular file" in refusal(run_cli, "unpack", tmp_path, "-o", out)
    with bad.open("wb") as stream:
        stream.truncate(MAX_PACKAGE_BYTES + 1)
    assert "larger than" in refusal(run_cli, "unpack", bad, "-o", out)
    assert "existing folder" in refusal(run_cli, "unpack", old, "-o", tmp_path / "none" / "x")
    assert "existing folder" in refusal(run_cli, "pack", field / "out", "-o", tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.fsq", "d.fsq"], "nothing half written is left"


def test_refusals_of_bases_and_machines(field: Path, digits_out: Path, tmp_path: Path, run_cli: RunCli) -> None:
    old, new, delta, out = field / "old.fsq", field / "new.fsq", tmp_path / "d.fsq", tmp_path / "x.bin"
    assert run_cli("diff", old, new, "-o", delta).code == 0
    assert "--base with the package" in refusal(run_cli, "unpack", delta, "-o", out)
    assert "another base" in refusal(run_cli, "unpack", delta, "--base", new, "-o", out)
    assert "a delta" in refusal(run_cli, "unpack", delta, "--base", delta, "-o", out)
    assert "--base is for deltas" in refusal(run_cli, "unpack", old, "--base", new, "-o", out)
    assert "a whole package was expected" in refusal(run_cli, "diff", delta, new, "-o", out)
    assert "for a machine of shape" in refusal(run_cli, "unpack", old, "--machine", digits_out, "-o", out)
    assert run_cli("pack", digits_out, "-o", tmp_path / "rom.fsq").code == 0
    assert "packages of one machine were expected" in refusal(run_cli, "diff", old, tmp_path / "rom.fsq", "-o", out)
    assert "--calibration: only with --model" in refusal(run_cli, "pack", field / "out", "--calibration", IMAGES, "-o", out)
    assert "a folder was expected" in refusal(run_cli, "pack", field / "out", "-o", out, "--with-decoder", old)
    assert not out.exists()


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_a_machine_in_simulation_takes_the_image_that_the_c_decoder_made_of_a_delta(tmp_path: Path) -> None:
    """Frames back to back, swapped from the deployed weights to the unpacked ones: every class sum is of the model in use."""
    require("icarus")
    old, new = lively_tiny(3), lively_tiny(4)
    plan = loaded(old)
    networks = network_of(old, plan), network_of(new, plan, old)
    program = compile_decoder(tmp_path, "gcc")
    (first,) = run_decoder(program, [Case(full_package(networks[0]).to_bytes())])
    (second,) = run_decoder(program, [Case(delta_package(*networks).to_bytes(), base=first.image)])
    assert first.code == second.code == 0
    images = {"a": first.image, "b": second.image}
    result = swap(write(tmp_path / "out", old, plan), job(plan, {"a": old, "b": new}, images, random_pixels(old, 3)), "icarus")
    assert result.measured("frames") >= 15


def key_pair(folder: Path, name: str) -> tuple[Path, Path]:
    """PEM files of a new Ed25519 key."""
    ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519", reason="signatures need the `sign` extra")
    from cryptography.hazmat.primitives import serialization as s

    key = ed25519.Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo))
    return private, public


def test_signatures(field: Path, tmp_path: Path, run_cli: RunCli) -> None:
    (mine, public), (_, foreign) = key_pair(tmp_path, "mine"), key_pair(tmp_path, "foreign")
    signed, out = tmp_path / "s.fsq", tmp_path / "x.bin"
    done = run_cli("pack", field / "out", "-o", signed, "--sign", mine, "--json")
    assert done.code == 0 and json.loads(done.out)["signed"] and signed.stat().st_size == (field / "old.fsq").stat().st_size + 64
    assert run_cli("pack", field / "out", "-o", tmp_path / "t.fsq", "--sign", mine).code == 0
    assert signed.read_bytes() == (tmp_path / "t.fsq").read_bytes()
    good = run_cli("unpack", signed, "--public-key", public, "-o", out)
    assert good.code == 0 and "signature is good" in good.out and out.read_bytes() == (field / "out/rtl/weights/load.bin").read_bytes()
    assert "not checked" in run_cli("unpack", signed, "-o", out).out
    out.unlink()
    assert "not that of --public-key foreign.pub" in refusal(run_cli, "unpack", signed, "--public-key", foreign, "-o", out)
    assert "it is not signed" in refusal(run_cli, "unpack", field / "old.fsq", "--public-key", public, "-o", out)
    # A content of one's own under a signature of another package: CRC and digests are right, the signature is not.
    assert run_cli("pack", field / "out", "-o", tmp_path / "n.fsq", "--sign", mine, "--model", field / "other.pt", "--calibration", IMAGES).code == 0
    forged = tmp_path / "forged.fsq"
    forged.write_bytes((tmp_path / "n.fsq").read_bytes()[:-64] + signed.read_bytes()[-64:])
    assert "not that of" in refusal(run_cli, "unpack", forged, "--public-key", public, "-o", out)
    assert run_cli("diff", signed, tmp_path / "n.fsq", "-o", tmp_path / "d.fsq", "--sign", mine).code == 0
    assert run_cli("unpack", tmp_path / "d.fsq", "--base", signed, "--public-key", public, "-o", out).code == 0
    for option, key in (("--sign", public), ("--sign", tmp_path / "none")):
        assert "Ed25519" in refusal(run_cli, "pack", field / "out", "-o", tmp_path / "y.fsq", option, key)
    assert "Ed25519" in refusal(run_cli, "unpack", signed, "-o", out, "--public-key", mine)


def test_without_the_library_signing_says_what_to_install(field: Path, tmp_path: Path, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    for command in (("pack", field / "out", "--sign", "key.pem"), ("unpack", field / "old.fsq", "--public-key", "key.pub")):
        assert "pip install 'fpga-squeeze[sign]'" in refusal(run_cli, *command, "-o", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_as_a_process_of_its_own(field: Path, tmp_path: Path) -> None:
    """As a script on a host would call it: with --quiet nothing is printed."""
    command = [sys.executable, "-m", "fpga_squeeze", "unpack", str(field / "old.fsq"), "-o", str(tmp_path / "load.bin"), "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == "" and (tmp_path / "load.bin").read_bytes() == (field / "out/rtl/weights/load.bin").read_bytes()
