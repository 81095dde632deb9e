#!/usr/bin/env python3
"""From a bare machine to a working platform: needs Python 3.11 and git, nothing else.

    python3.11 bootstrap.py run  [arguments of `segline run`]    install, run, say where to look
    python3.11 bootstrap.py test [arguments of pytest]           install, run the tests
    python3.11 bootstrap.py audit [arguments of tools/dependencies.py]   install, look at what is installed

They install into `.venv` on first use: exactly the versions in constraints.txt. What audits lies in `.venv/audit`, apart from
what it audits: the bill of materials names the project's packages, and none of the auditor's is loaded by the project (one of
them makes each start of dbt and of Dagster two seconds slower). Only the standard library is used here.
"""

import hashlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / "bin"
AUDIT = VENV / "audit"


def wanted() -> str:
    """Hash of what decides the environments' content."""
    digest = hashlib.sha256()
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def install(folder: Path, *packages: list[str]) -> None:
    """Make an environment and install these arguments of pip, one call each, unless that very state is installed already."""
    stamp = folder / "installed.sha256"
    if stamp.exists() and stamp.read_text() == wanted():
        return
    print(f"Installing into {folder.relative_to(ROOT)} (minutes the first time) …", file=sys.stderr, flush=True)
    if subprocess.call([sys.executable, "-m", "venv", str(folder)]):
        sys.exit("No virtual environment could be made: install Python's venv module (Debian: python3.11-venv)")
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    for arguments in packages:
        if subprocess.call([*pip, "-c", "constraints.txt", *arguments], cwd=ROOT):
            sys.exit("The packages could not be installed: see above")
    stamp.write_text(wanted())


def install_project() -> None:
    """The project itself, as it lies here, with its test tools."""
    install(VENV, ["setuptools"], ["--no-build-isolation", "-e", ".[test]"])


def install_audit() -> None:
    """What examines the project's environment."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    install(AUDIT, ["setuptools", *project["optional-dependencies"]["audit"]])


def main() -> int:
    """Install, then do what was asked."""
    if sys.version_info[:2] != (3, 11):
        sys.exit(f"Python 3.11 is needed, this is {sys.version.split()[0]}: call python3.11 bootstrap.py …")
    if len(sys.argv) < 2 or sys.argv[1] not in ("run", "test", "audit"):
        sys.exit(__doc__)
    install_project()
    command, arguments = sys.argv[1], sys.argv[2:]
    if command == "run":
        status = subprocess.call([str(BIN / "segline"), "run", *arguments])
        print(f"\nThe command lies in {BIN.relative_to(ROOT)}/segline; put it on the PATH: source .venv/bin/activate")
        return status
    os.chdir(ROOT)
    if command == "audit":
        install_audit()
        return subprocess.call([str(AUDIT / "bin" / "python"), "tools/dependencies.py", *arguments])
    # Three at a time, for two cores: a third of the time one waits, for a child, a disk or what another makes for both. A file to
    # a worker: a module's fixtures are made once. In the order of tests/conftest.py: the longest first.
    files = ["-n", "3", "--dist", "loadfile", "--no-loadscope-reorder"]
    parallel = [] if any(argument.startswith("-n") for argument in arguments) else files
    return subprocess.call([str(BIN / "python"), "-m", "pytest", *parallel, *arguments])


if __name__ == "__main__":
    sys.exit(main())
