"""What opening a file made to kill takes of memory: in a process of its own, which tells its peak."""

import subprocess
import sys

from tests.support.bomb_media import bombs

_OPEN = """
import resource, sys
from pathlib import Path
from consumers.clock import Deadline, SystemClock
from consumers.errors import VideoError
from consumers.media.decode import VideoDecoder
from consumers.media.reader import RangeReader
from schemas.profile import Limits

resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
# Not what getrusage says, which begins with the peak of the process that started this one.
peak = lambda: int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
before = peak()
for path in sys.argv[1:]:
    try:
        with open(path, "rb", buffering=0) as file:
            list(VideoDecoder(RangeReader(file), Limits(), Deadline(SystemClock(), 60)).frames())
        print("taken")
    except VideoError as error:
        print(type(error).error_class())
print(peak() - before)
"""


def test_no_file_made_to_kill_takes_memory(tmp_path):
    paths = []
    for number, (_, content, _) in enumerate(bombs()):
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(content)
        paths.append(str(path))
    done = subprocess.run(
        [sys.executable, "-c", _OPEN, *paths], capture_output=True, text=True, check=True, timeout=120
    )
    *classes, growth_kib = done.stdout.split()
    assert classes == ["index_too_large"] * len(paths)
    # Among it some windows of 1 MB, and the 60 MB of an index that is unpacked up to its bound.
    assert int(growth_kib) < 100 * 1024
