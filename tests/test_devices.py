"""The part table: complete, sane, found by name, part and board."""

from __future__ import annotations

import pytest

from fpga_squeeze.errors import InputError
from fpga_squeeze.hardware.devices import find_device, load_devices


def test_table_is_sane() -> None:
    devices = load_devices()
    labels = [label.lower() for d in devices for label in (d.name, d.part, *d.boards)]
    assert len(devices) >= 13 and len(set(labels)) == len(labels)
    for d in devices:
        assert 0 < d.lutram_luts < d.lut <= d.ff and d.dsp > 0 and d.bram18 > 0 and d.uram >= 0
        assert 100 <= d.max_clock_mhz <= 400


@pytest.mark.parametrize(
    ("name", "part", "bram36", "megabits"),
    [
        ("pynq-z2", "xc7z020clg400-1", 140, 5.16), ("ZCU102", "xczu9eg-ffvb1156-2-e", 912, 33.6), ("zcu104", "xczu7ev-ffvc1156-2-e", 312, 39.8),
        ("kv260", "xck26-sfvc784-2LV-c", 144, 24.2), ("ULX3S", "LFE5U-85F-6BG381C", 208, 3.83), ("vcu118", "xcvu9p-flga2104-2L-e", 2160, 363),
        ("u50", "xcu50-fsvh2104-2-e", 1344, 238), ("xczu9eg-ffvb1156-2-e", "xczu9eg-ffvb1156-2-e", 912, 33.6),
    ],
)  # fmt: skip
def test_find_device(name: str, part: str, bram36: float, megabits: float) -> None:
    device = find_device(name)
    assert device.part == part and device.bram36 == bram36
    assert device.memory_bits / 1e6 == pytest.approx(megabits, rel=0.005)


def test_multiplier_and_lut_of_a_family() -> None:
    assert find_device("zcu102").multiplier_bits == (27, 18) and find_device("zcu102").lut_inputs == 6
    assert find_device("pynq-z2").multiplier_bits == (25, 18)
    assert find_device("ulx3s").multiplier_bits == (18, 18) and find_device("ulx3s").lut_inputs == 4


def test_unknown_device_suggests() -> None:
    with pytest.raises(InputError, match=r"'zcu103' is not known; did you mean .*zcu10"):
        find_device("zcu103")
    with pytest.raises(InputError, match="known: xc7z020"):
        find_device("!!")
