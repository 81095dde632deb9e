#!/usr/bin/env python3
"""From a bare machine to a working platform: needs Python 3.11 and git, nothing else.

    python3.11 bootstrap.py run  [arguments of `segline run`]    install, run, say where to look
    python3.11 bootstrap.py test [arguments of pytest]           install, run the tests

Both install into `.venv` on first use: exactly the versions in constraints.txt. Only the standard library is used here.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / "bin"
STAMP = VENV / "installed.sha256"


def wanted() -> str:
    """Hash of what decides the environment's content."""
    digest = hashlib.sha256()
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def install() -> None:
    """Make `.venv` and install the project with its test tools, unless that very state is installed already."""
    if sys.version_info[:2] != (3, 11):
        sys.exit(f"Python 3.11 is needed, this is {sys.version.split()[0]}: call python3.11 bootstrap.py …")
    if STAMP.exists() and STAMP.read_text() == wanted():
        return
    print("Installing into .venv (about two minutes the first time) …", file=sys.stderr, flush=True)
    if subprocess.call([sys.executable, "-m", "venv", str(VENV)]):
        sys.exit("No virtual environment could be made: install Python's venv module (Debian: python3.11-venv)")
    pip = [str(BIN / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if subprocess.call([*pip, "-c", "constraints.txt", "setuptools"], cwd=ROOT):
        sys.exit("The packages could not be installed: see above")
    if subprocess.call([*pip, "--no-build-isolation", "-c", "constraints.txt", "-e", ".[test]"], cwd=ROOT):
        sys.exit("The packages could not be installed: see above")
    STAMP.write_text(wanted())


def main() -> int:
    """Install, then do what was asked."""
    if len(sys.argv) < 2 or sys.argv[1] not in ("run", "test"):
        sys.exit(__doc__)
    install()
    command, arguments = sys.argv[1], sys.argv[2:]
    if command == "run":
        status = subprocess.call([str(BIN / "segline"), "run", *arguments])
        print(f"\nThe command lies in {BIN.relative_to(ROOT)}/segline; put it on the PATH: source .venv/bin/activate")
        return status
    os.chdir(ROOT)
    # Three at a time, for two cores: a third of the time one waits, for a child, a disk or what another makes for both. A file to
    # a worker: a module's fixtures are made once. In the order of tests/conftest.py: the longest first.
    files = ["-n", "3", "--dist", "loadfile", "--no-loadscope-reorder"]
    parallel = [] if any(argument.startswith("-n") for argument in arguments) else files
    return subprocess.call([str(BIN / "python"), "-m", "pytest", *parallel, *arguments])


if __name__ == "__main__":
    sys.exit(main())
