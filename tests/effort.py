"""How much a test session does, and what its workers share.

Belongs here: what makes the gate of a landing shorter than the whole suite. Does not belong here: what is tested.
"""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestration.settings import Settings
from orchestration.transformation import dbt_environment, prepare

in_gate = False  # set from the command line: `-m "not nightly"` is the gate


def examples(full: int) -> int:
    """Random examples of a property: a third in the gate, where each landing draws new ones; all in the whole suite."""
    return max(2, full // 3) if in_gate else full


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> tuple[Path, bool]:
    """A folder that the first worker to ask fills, and whether that was this one; the others wait for it.

    Workers share nothing but files. Who did not fill it takes a copy of what he is going to write to.
    """
    shared = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / f"once-{name}"
    with (shared / f"once-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / "made").exists():
            return folder, False
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        make(folder)
        (folder / "made").touch()
    return folder, True


def parsed_home(factory: pytest.TempPathFactory, profile: str) -> Settings:
    """A home of the caller's own in which dbt has parsed the project for that profile: ten seconds that many would pay."""

    def make(folder: Path) -> None:
        settings = Settings(home=folder / "home", profile=profile)
        with pytest.MonkeyPatch.context() as patch:
            for name in dbt_environment(settings):
                patch.delenv(name, raising=False)  # so that what `prepare` sets is undone
            prepare(settings)

    folder, _ = made_once(factory, f"parsed-{profile}", make)
    home = factory.mktemp(f"parsed-{profile}") / "home"
    shutil.copytree(folder / "home", home)
    return Settings(home=home, profile=profile)
