"""Lines of a running program: passed on as they come, and the program is stopped when it is late."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from fpga_squeeze.verify.lines import run_lines


def python(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def test_lines_come_while_the_program_runs() -> None:
    """The program waits for a second after its first line: it must have been seen by then."""
    seen: list[tuple[str, float]] = []
    text = "import sys, time; print('one', flush=True); time.sleep(1); print('two'); sys.stderr.write('x' * 200_000); sys.exit(3)"
    done = run_lines(python(text), lambda line: seen.append((line, time.monotonic())))
    assert [line for line, _ in seen] == ["one", "two"]
    assert seen[1][1] - seen[0][1] > 0.5
    assert (done.returncode, done.stdout, len(done.stderr)) == (3, "one\ntwo\n", 200_000)


def test_a_late_program_is_killed() -> None:
    started = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        run_lines(python("import time; print('one', flush=True); time.sleep(60)"), lambda _line: None, timeout_seconds=1.0)
    assert time.monotonic() - started < 20
    with pytest.raises(KeyError):
        run_lines(python("import time; print('one', flush=True); time.sleep(60)"), lambda line: {}[line])
    assert time.monotonic() - started < 40
