"""Run a program and see its output line by line while it runs, so that a bar can move."""

from __future__ import annotations

import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


def run_lines(
    command: Sequence[str],
    on_line: Callable[[str], None],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_seconds: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Like subprocess.run with captured text, and `on_line` is called with each line of stdout as it comes, its end cut off.

    Raises subprocess.TimeoutExpired when the program still runs after `timeout_seconds`; it is killed then.
    """
    late = threading.Event()
    lines: list[str] = []
    # A file, not a second pipe: nobody reads stderr until the program is done, and a full pipe would stop it.
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, errors="replace", cwd=cwd, env=environment) as process:

            def stop() -> None:
                late.set()
                process.kill()

            timer = threading.Timer(timeout_seconds, stop) if timeout_seconds is not None else None
            if timer is not None:
                timer.start()
            try:
                for line in process.stdout or ():
                    lines.append(line)
                    on_line(line.rstrip("\n"))
            except BaseException:
                process.kill()
                raise
            finally:
                if timer is not None:
                    timer.cancel()
        errors.seek(0)
        if late.is_set():
            raise subprocess.TimeoutExpired(command, timeout_seconds or 0.0)
        return subprocess.CompletedProcess(command, process.returncode, "".join(lines), errors.read())
