"""One writer at a time: the second run waits or says so, and a killed run never blocks the next."""

import subprocess
import sys
import time

import pytest

from orchestration.run_lock import RunLocked, run_lock
from orchestration.settings import Settings

HOLDER = """
import sys, time
from pathlib import Path
from orchestration.run_lock import run_lock
from orchestration.settings import Settings
with run_lock(Settings(home=Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_run_says_who_holds_the_store(tmp_path, holder):
    said = []
    with pytest.raises(RunLocked, match=str(holder.pid)), run_lock(Settings(home=tmp_path, lock_wait_seconds=0), said.append):
        pytest.fail("two runs at once")
    assert len(said) == 1 and str(holder.pid) in said[0]


def test_a_killed_run_leaves_no_lock(tmp_path, holder):
    holder.kill()
    holder.wait()
    started = time.monotonic()
    with run_lock(Settings(home=tmp_path, lock_wait_seconds=5)):
        assert time.monotonic() - started < 5


def test_the_lock_is_free_again_after_use(tmp_path):
    for _ in range(2):
        with run_lock(Settings(home=tmp_path, lock_wait_seconds=0)):
            pass
