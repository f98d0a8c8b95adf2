"""A program under a pseudo terminal, and what it showed there."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from typing import Literal


def in_terminal(
    command: list[str], stream: Literal["stdout", "stderr"] = "stderr", environment: dict[str, str] | None = None, seconds: float = 120.0
) -> tuple[int, str, str]:
    """Run with `stream` on a pseudo terminal, killed after `seconds`. Returns exit code, what came on stdout where that is a pipe, what the terminal got."""
    leader, follower = pty.openpty()
    env = {**os.environ, "TERM": "xterm", **(environment or {})}
    streams: dict[str, int] = {"stdout": subprocess.PIPE, stream: follower}
    with subprocess.Popen(command, env=env, stdout=streams["stdout"], stderr=streams.get("stderr")) as process:
        os.close(follower)
        shown, end = b"", time.monotonic() + seconds
        while time.monotonic() < end:
            ready, _, _ = select.select([leader], [], [], 0.1)
            if ready:
                try:
                    part = os.read(leader, 65536)
                except OSError:
                    break
                if not part:
                    break
                shown += part
        else:
            process.kill()
        out = process.stdout.read().decode() if process.stdout else ""
    os.close(leader)
    return process.returncode, out, shown.decode(errors="replace")
