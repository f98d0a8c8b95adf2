"""Wheel and sdist: everything that is needed travels along, and an installed copy works from another folder, without the checkout."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SKIPPED = shutil.ignore_patterns(".git", ".venv", "__pycache__", "*.egg-info", "hls_out", "build", "dist", ".*_cache", ".hypothesis", "site", ".ci")

USE = """
import sys
from pathlib import Path
import fpga_squeeze as fs
from fpga_squeeze.zoo import embedded_images, embedded_model_path
assert Path(fs.__file__).is_relative_to(sys.prefix), fs.__file__
design = fs.export(embedded_model_path(), "out", calibration=embedded_images("calibration"), input_size=12, golden_frames=1, target_fps=5000)
print("SUM", design.sums(sorted(embedded_images("test").iterdir())[0]).tolist())
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A wheel from a copy of the checkout, an sdist from it too, and a wheel from that sdist; by setuptools alone, with no network."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("packages")
    shutil.copytree(ROOT, folder / "source", ignore=SKIPPED)

    def make(kind: str, source: Path) -> Path:
        code = f"import setuptools.build_meta as b; print(b.build_{kind}({str(folder)!r}))"
        done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return folder / done.stdout.strip().splitlines()[-1]

    wheel = make("wheel", folder / "source")
    (folder / "first").mkdir()
    kept = wheel.rename(folder / "first" / wheel.name)
    sdist = make("sdist", folder / "source")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    unpacked = folder / sdist.name.removesuffix(".tar.gz")
    return {"wheel": kept, "sdist": sdist, "second": make("wheel", unpacked)}


def test_everything_is_packaged(built: dict[str, Path]) -> None:
    names = set(zipfile.ZipFile(built["wheel"]).namelist())
    for folder, target in (("fpga_squeeze", "fpga_squeeze"), ("templates", "fpga_squeeze/templates")):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                assert f"{target}/{path.relative_to(ROOT / folder).as_posix()}" in names, path
    assert not [n for n in names if n.startswith(("tests/", "docs/", "sim/"))]


def test_sdist_gives_the_same_wheel(built: dict[str, Path]) -> None:
    one, two = (zipfile.ZipFile(built[k]) for k in ("wheel", "second"))
    contents = [{n: z.read(n) for n in z.namelist() if ".dist-info/" not in n} for z in (one, two)]
    assert contents[0] == contents[1] and len(contents[0]) > 200
    with tarfile.open(built["sdist"]) as archive:
        inside = {n.partition("/")[2] for n in archive.getnames()}
    assert {"README.md", "LICENSE", "pyproject.toml"} <= inside


def test_an_installed_copy_works_elsewhere(built: dict[str, Path], tmp_path: Path) -> None:
    """Fresh environment, dependencies through a .pth file: the checkout is out of reach; wheel and sdist install and do the whole job."""
    home = tmp_path / "env"
    venv.create(home, with_pip=False)
    packages = next((home / "lib").glob("python*/site-packages"))
    # Third-party packages only: an editable install of the checkout works through its own .pth and finder, which a path in a .pth does not run.
    (packages / "dependencies.pth").write_text("\n".join(p for p in site.getsitepackages() if Path(p).is_dir()) + "\n")
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def run(*command: object) -> str:
        done = subprocess.run([str(c) for c in command], cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def install(package: Path) -> None:
        options = ("--no-deps", "--no-index", "--no-build-isolation", "--force-reinstall", "--ignore-installed", "--quiet")
        run(sys.executable, "-m", "pip", "--python", home / "bin/python", "install", *options, package)

    install(built["wheel"])
    assert "SUM [[" in run(home / "bin/python", "-c", USE)
    assert (tmp_path / "out/rtl/lib").is_dir() and (tmp_path / "out/sim/run.py").is_file()
    if shutil.which("iverilog"):
        assert "equal, bit by bit" in run(home / "bin/fpga-squeeze", "verify", "out", "--rtl", "--sim", "icarus")
    else:
        assert "equal, bit by bit" in run(home / "bin/fpga-squeeze", "verify", "out", "--hls")
    manifest = (tmp_path / "out/manifest.json").read_bytes()
    install(built["sdist"])
    run(home / "bin/python", "-c", USE)
    assert (tmp_path / "out/manifest.json").read_bytes() == manifest
