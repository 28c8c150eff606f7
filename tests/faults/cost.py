"""What a piece of code costs in time and in memory, so that a bound on it can fail."""

import re
import time
from pathlib import Path

MOST_S = 2.0
MOST_BYTES = 500e6
STATUS = Path("/proc/self/status")


def of_memory(name):
    """A line of the kernel's account of this process, in bytes."""
    found = re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
    return int(found.group(1)) * 1024


class Cost:
    """Seconds and peak growth of resident memory inside a with block; worst of all blocks."""

    def __init__(self):
        self.worst_s = self.worst_bytes = self.blocks = 0

    def __enter__(self):
        if STATUS.exists():
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
            self._before = of_memory("VmRSS")
        self._began = time.perf_counter()
        return self

    def __exit__(self, kind, *_):
        self.seconds = time.perf_counter() - self._began
        self.bytes = of_memory("VmHWM") - self._before if STATUS.exists() else 0
        self.worst_s = max(self.worst_s, self.seconds)
        self.worst_bytes = max(self.worst_bytes, self.bytes)
        self.blocks += 1
        if kind is None:
            assert self.seconds < MOST_S
            assert self.bytes < MOST_BYTES
