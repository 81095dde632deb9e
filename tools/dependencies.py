#!/usr/bin/env python3
"""What is installed here, and whether it may be: pins, refused releases, known advisories, and the bill of materials.

    python3.11 bootstrap.py audit [--sbom FILE] [--offline] [--environment FOLDER]

Runs in an environment of its own and looks at the project's (`.venv`). Fails (exit code 1) if a package is installed in either
that constraints.txt does not pin to that very version, if one is refused by known_bad.toml, if an advisory is known for one and
not waived, if a waiver has run out, or if the project's bill of materials does not fit its schema. Where the advisory service
cannot be reached it says so and goes on: the committed list holds without it.

pip-audit (PyPA, Apache-2.0) asks the OSV service; cyclonedx-bom (OWASP, Apache-2.0) writes the bill in CycloneDX 1.6 as XML,
whose schema is checked in a second (as JSON in twenty). Belongs here: what is installed. Does not belong here: which dependencies
the project has (pyproject.toml), how the two environments are made (bootstrap.py).
"""

import argparse
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import distributions
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
# The project itself, and what makes the environment before anything is pinned.
OWN = {"segline", "pip"}
_REFUSED = {"package", "versions", "advisory", "reason"}
_WAIVED = {"package", "advisory", "until", "reviewed_by", "reason"}


class ListError(ValueError):
    """known_bad.toml is not as it must be."""


@dataclass
class Findings:
    """What was looked at, one line each, and what is wrong."""

    said: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def packages_folder(environment: Path) -> Path:
    """Where that virtual environment keeps its distributions. Raises `ListError` if it is none."""
    found = sorted(environment.glob("lib/python3*/site-packages"))
    if len(found) != 1:
        raise ListError(f"{environment} is no virtual environment: python3.11 bootstrap.py audit makes and examines one")
    return found[0]


def installed(environment: Path = ENVIRONMENT) -> dict[str, str]:
    """Name (canonical) and version of every distribution of that environment."""
    given = distributions(path=[str(packages_folder(environment))])
    return {canonicalize_name(one.metadata["Name"]): one.version for one in given if one.metadata["Name"]}


def pins(path: Path) -> dict[str, str]:
    """The versions that a constraints file fixes."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    pairs = (line.partition("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, _, version in pairs}


def unpinned(found: Mapping[str, str], fixed: Mapping[str, str]) -> list[str]:
    """Installed packages that are not pinned to that version."""
    return [
        f"{name} {version} is installed, constraints.txt says {fixed.get(name, 'nothing of it')}"
        for name, version in sorted(found.items())
        if name not in OWN and fixed.get(name) != version
    ]


def read_list(path: Path) -> tuple[list[dict], list[dict]]:
    """Refused releases and waived advisories. Raises `ListError` for anything that could be read two ways."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ListError(f"{path.name}: {error}") from None
    refused, waived = content.pop("refused", []), content.pop("waived", [])
    if content or not refused:
        raise ListError(f"{path.name}: only [[refused]] and [[waived]] belong there, and something is refused")
    for entries, fields in ((refused, _REFUSED), (waived, _WAIVED)):
        for entry in entries:
            if set(entry) != fields or not all(entry.values()):
                raise ListError(f"{path.name}: an entry has exactly {', '.join(sorted(fields))}, none empty: {entry}")
    for entry in refused:
        try:
            SpecifierSet(entry["versions"])
        except InvalidSpecifier:
            raise ListError(f"{path.name}: {entry['versions']!r} is no version specifier") from None
    if any(not isinstance(entry["until"], date) for entry in waived):
        raise ListError(f"{path.name}: `until` is a date like 2027-01-31")
    return refused, waived


def refused_among(found: Mapping[str, str], refused: Iterable[Mapping[str, str]]) -> list[str]:
    """Installed releases that are refused."""
    return [
        f"{entry['package']} {found[name]} is refused ({entry['advisory']}): {entry['reason']}"
        for entry in refused
        if (name := canonicalize_name(entry["package"])) in found
        and SpecifierSet(entry["versions"]).contains(found[name], prereleases=True)
    ]


def run_out(waived: Iterable[Mapping[str, object]], today: date) -> list[str]:
    """Waivers whose day has passed."""
    return [
        f"the waiver of {entry['advisory']} ran out on {entry['until']}: review it or upgrade {entry['package']}"
        for entry in waived
        if entry["until"] < today  # type: ignore[operator]
    ]


def advisories(report: Mapping[str, object], waived: Iterable[Mapping[str, object]], today: date) -> list[str]:
    """What pip-audit's report names and no waiver in force covers."""
    kept = {(canonicalize_name(str(one["package"])), one["advisory"]) for one in waived if one["until"] >= today}  # type: ignore[operator]
    found = []
    for package in report["dependencies"]:  # type: ignore[attr-defined]
        for one in package.get("vulns", []):
            names = {one["id"], *one.get("aliases", [])}
            if not any((canonicalize_name(package["name"]), name) in kept for name in names):
                fixed = ", ".join(one.get("fix_versions", [])) or "no release yet"
                found.append(f"{package['name']} {package['version']}: {', '.join(sorted(names))}; mended in {fixed}")
    return found


def ask_service(
    environments: Iterable[Path] = (ENVIRONMENT,), address: str | None = None, timeout: int = 10, auditor: str = sys.executable
) -> Mapping[str, object] | None:
    """pip-audit's report on them; `None` if the service did not answer. `auditor`: the Python that has pip-audit."""
    command = [auditor, "-m", "pip_audit", "--skip-editable", "-s", "osv"]
    command += [part for one in environments for part in ("--path", str(packages_folder(one)))]
    command += ["--timeout", str(timeout), "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run([*command, *(["--osv-url", address] if address else [])], capture_output=True, text=True, check=False)
    try:
        report = json.loads(done.stdout)
    except ValueError:
        if "No module named" in done.stderr:
            raise SystemExit("pip-audit is not installed here: python3.11 bootstrap.py audit") from None
        return None
    return report if isinstance(report, dict) and report.get("dependencies") else None


def write_sbom(path: Path, environment: Path = ENVIRONMENT, auditor: str = sys.executable) -> str | None:
    """Write the bill of materials of that environment, checked against its schema; what is wrong with it, if anything."""
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [auditor, "-m", "cyclonedx_py", "environment", "--pyproject", str(ROOT / "pyproject.toml"), "--sv", "1.6"]
    command += ["--of", "XML", "--validate", "--output-reproducible", "-o", str(path), str(environment / "bin" / "python")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"the bill of materials could not be written: {done.stderr.strip()[-500:]}"


def examine(sbom: Path | None, offline: bool, today: date, environment: Path = ENVIRONMENT) -> Findings:
    """All of it, on that environment."""
    findings = Findings()
    fixed = pins(ROOT / "constraints.txt")
    refused, waived = read_list(Path(__file__).with_name("known_bad.toml"))
    environments = {"project": environment, "auditor": Path(sys.prefix)}
    for whose, folder in environments.items():
        found = installed(folder)
        findings.wrong += unpinned(found, fixed) + refused_among(found, refused)
        findings.said.append(f"{len(found)} packages of the {whose}, held against constraints.txt and {len(refused)} refusals")
    findings.wrong += run_out(waived, today)
    report = None if offline else ask_service(environments.values())
    if report is None:
        why = "as asked" if offline else "it could not be reached"
        findings.said.append(f"the advisory service was NOT asked ({why}): only the committed list was held against the packages")
    else:
        findings.wrong += advisories(report, waived, today)
        findings.said.append(f"the advisory service was asked about {len(report['dependencies'])} packages")  # type: ignore[arg-type]
    if sbom:
        problem = write_sbom(sbom, environment)
        findings.wrong += [problem] if problem else []
        findings.said.append(f"bill of materials: {sbom}")
    return findings


def main() -> int:
    """Say what was found; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sbom", type=Path, help="where the bill of materials goes")
    parser.add_argument("--offline", action="store_true", help="do not ask the advisory service")
    parser.add_argument("--environment", type=Path, default=ENVIRONMENT, help="the environment to look at (default: .venv)")
    given = parser.parse_args()
    try:
        findings = examine(given.sbom, given.offline, date.today(), given.environment)
    except ListError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(findings.said))
    print("\n".join(findings.wrong), file=sys.stderr)
    return 1 if findings.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
