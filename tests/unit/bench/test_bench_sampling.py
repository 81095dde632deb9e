"""Measuring a command: its children count, its failure is told, and nothing is left running."""

import os
import sys
import time
from types import SimpleNamespace

import psutil
import pytest

from orchestration.bench.sampling import CommandFailed, PeakMemory, run_measured

CHILD_HOLDS_MEMORY = """
import subprocess, sys
subprocess.run([sys.executable, "-c", "import time; held = bytearray(150_000_000); time.sleep(1.5)"], check=True)
"""
STARTS_A_CHILD_AND_SLEEPS = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open(sys.argv[1], "w").write(str(child.pid))
time.sleep(60)
"""


class Process:
    """A process as the sampler sees it: bytes resident, bytes by proportional share."""

    def __init__(self, resident: int, share: int) -> None:
        self.resident, self.share, self.walks = resident, share, 0

    def memory_info(self):
        return SimpleNamespace(rss=self.resident)

    def memory_full_info(self):
        self.walks += 1
        return SimpleNamespace(rss=self.resident, pss=self.share)


class Gone:
    def memory_info(self):
        raise psutil.NoSuchProcess(1)

    memory_full_info = memory_info


def test_shared_pages_count_once():
    peak = PeakMemory()
    peak.look([Process(100, 60), Process(100, 60)])
    assert peak.peak == 120


def test_shares_are_read_only_at_a_new_height():
    peak, process = PeakMemory(), Process(100, 90)
    for _ in range(5):
        peak.look([process])
    assert process.walks == 1
    process.resident, process.share = 200, 180
    peak.look([process])
    assert (process.walks, peak.peak) == (2, 180)


def test_a_process_that_ended_holds_nothing():
    peak = PeakMemory()
    peak.look([Gone(), Process(50, 50)])
    assert peak.peak == 50


def test_memory_of_children_counts(tmp_path):
    measured = run_measured([sys.executable, "-c", CHILD_HOLDS_MEMORY], os.environ, tmp_path, tmp_path / "log")
    assert measured.peak_memory_mb > 150
    assert measured.seconds > 1 and measured.cpu_seconds > 0


def test_a_failure_tells_what_the_command_said_last(tmp_path):
    command = [sys.executable, "-c", "print('the reason'); raise SystemExit(3)"]
    with pytest.raises(CommandFailed, match=r"(?s)exit code 3.*the reason"):
        run_measured(command, os.environ, tmp_path, tmp_path / "log")


def test_an_interrupted_measurement_leaves_no_process(tmp_path, monkeypatch):
    """Ctrl-C during a benchmark of ten minutes must not leave the pipeline running."""
    marker = tmp_path / "child"

    def interrupt(self, processes):
        if marker.exists() and marker.read_text():
            raise KeyboardInterrupt

    monkeypatch.setattr(PeakMemory, "look", interrupt)
    command = [sys.executable, "-c", STARTS_A_CHILD_AND_SLEEPS, str(marker)]
    with pytest.raises(KeyboardInterrupt):
        run_measured(command, os.environ, tmp_path, tmp_path / "log")
    child = int(marker.read_text())
    deadline = time.monotonic() + 10
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
