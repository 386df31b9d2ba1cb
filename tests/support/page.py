"""The real service in a process of its own, and a real browser to look at its page."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TOKENS = {word: f"{word}-token-of-the-page-tests" for word in ("admin", "operate", "read")}

requires_chromium = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"),
    reason="no Chromium: install Debian's package chromium, or run .ci/setup-browser",
)

_SLUICE = str(Path(sys.executable).with_name("sluice"))
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_API = """
[api]
port = 0
metrics_port = 0
probe_interval_s = 0.5
control_poll_interval_s = 0.3
"""


@contextmanager
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    assert CHROMIUM is not None, "CI has to have Chromium: .ci/setup-browser installs it"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=list(_ARGUMENTS))
        try:
            yield running
        finally:
            running.close()


def prepare(folder: Path, consumer: str = "films") -> Path:
    """Make a warehouse and settings in ``folder``; return the folder from which videos may be read."""
    media = folder / "media"
    media.mkdir()
    subprocess.run(
        [_SLUICE, "init", "--warehouse", str(folder / "warehouse"), "--allow", str(media)],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    settings = folder / "sluice.toml"
    text = settings.read_text().replace('id = "default"', f'id = "{consumer}"\ncommit_interval_s = 1.0')
    # A broken upload is mended under its own name, and its row replayed.
    text = text.replace("[input]\n", '[input]\non_replaced = "take_new"\n')
    settings.write_text(text + _API)
    return media


class RunningService:
    """`sluice run` with the inline pool. Started again, it listens on the same port.

    Args:
        folder: that of the settings.
        port: where it listens; None is a free one.
        num_descriptors: so many files and connections may it have open at most; None is what this process may.
    """

    def __init__(self, folder: Path, port: int | None = None, num_descriptors: int | None = None) -> None:
        environment = os.environ | {f"SLUICE_API__TOKENS__{word.upper()}": token for word, token in TOKENS.items()}
        command = [_SLUICE, "run", "--pool", "inline", *(() if port is None else ("--port", str(port)))]
        if num_descriptors is not None:
            command = ["sh", "-c", f'ulimit -n {num_descriptors} && exec "$@"', "sluice", *command]
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self.process.stdout is not None
        said = []
        for line in self.process.stdout:
            said.append(line)
            if found := re.search(r"control plane (\S+),", line):
                self.url = found[1]
                break
        else:
            raise AssertionError("".join(said))
        self.port = int(self.url.rpartition(":")[2])
        self.client = httpx.Client(
            base_url=f"{self.url}/api/v1", headers={"Authorization": f"Bearer {TOKENS['operate']}"}, timeout=30
        )

    def register(self, paths: Sequence[Path]) -> None:
        """Have videos land."""
        answer = self.client.post("/videos", json={"uris": [str(path) for path in paths]})
        assert answer.status_code == 200, answer.text

    def end(self, number: int = signal.SIGTERM) -> None:
        """End it by a signal."""
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(60)
        self.client.close()
        assert self.process.stdout is not None
        self.process.stdout.close()
