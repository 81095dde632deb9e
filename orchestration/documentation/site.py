"""The site: pages rendered by MkDocs with a theme of our own, put in place at once.

Each page is one file that loads nothing: its style stands in it, its drawings are SVG, it has no script, and its policy forbids
the browser to fetch anything. So it opens from a folder, a mail or an archive, offline, years later.

Belongs here: rendering, the last look for pseudonyms, replacing the old site. Does not belong here: what pages say.
MkDocs: https://www.mkdocs.org/user-guide/configuration/
"""

import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from orchestration.documentation.contents import Page, write_pages
from orchestration.documentation.facts import Facts
from orchestration.identity.pseudonyms import PREFIXES, TOKEN_LENGTH
from orchestration.lake import private_folder

THEME = Path(__file__).parent / "theme"
MARK = "site.json"
LEFTOVER_SECONDS = 3600
_PREFIXES = "|".join(sorted(prefix for prefix in PREFIXES.values() if prefix))
# A zone's pseudonym; the raw zone's has no prefix and looks like any other word of 22 letters, so no query selects one.
TOKEN = re.compile(rf"(?<![A-Za-z0-9_-])(?:{_PREFIXES})[A-Za-z0-9_-]{{{TOKEN_LENGTH}}}(?![A-Za-z0-9_-])")


class DocumentationError(RuntimeError):
    """The site cannot be made, or not there; the one that stood before still stands."""


@dataclass(frozen=True)
class Site:
    """A site in place: its folder, how many pages and bytes, how long it took."""

    folder: Path
    pages: int
    bytes: int
    seconds: float

    @property
    def index(self) -> Path:
        """The page to open."""
        return self.folder / "index.html"


def build_site(facts: Facts, folder: Path) -> Site:
    """Write all pages about the facts and put the site at `folder`. What stood there stays until the new one is whole.

    Raises `DocumentationError` if the folder holds something else, a page holds a pseudonym, or a page cannot be rendered.
    """
    started = time.perf_counter()
    require_free(folder)
    pages = write_pages(facts)
    require_no_pseudonym(pages)
    if not folder.parent.exists():
        private_folder(folder.parent)
    _clear_leftovers(folder)
    with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as work:
        made = Path(work) / "site"
        render(pages, str(facts.publication["profile"]), Path(work), made)
        what = {"run_id": facts.publication["run_id"], "built_at": datetime.now(UTC).isoformat(), "pages": len(pages)}
        (made / MARK).write_text(json.dumps(what) + "\n", encoding="utf-8")
        made.chmod(0o700)
        _replace(folder, made, Path(work) / "before")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Site(folder, len(pages), size, time.perf_counter() - started)


def _clear_leftovers(folder: Path) -> None:
    """Remove what killed builds left beside the site; what is younger may be in use."""
    for path in folder.parent.glob(f".{folder.name}-*"):
        if path.is_dir() and time.time() - path.stat().st_mtime > LEFTOVER_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def require_free(folder: Path) -> None:
    """Raises `DocumentationError` unless the folder is absent, empty, or a site of ours: nothing else is overwritten."""
    if folder.is_dir() and not (folder / MARK).is_file() and any(folder.iterdir()):
        raise DocumentationError(f"{folder} holds other files: give a folder that is empty or not there yet")
    if folder.exists() and not folder.is_dir():
        raise DocumentationError(f"{folder} is a file: give a folder")


def require_no_pseudonym(pages: Iterable[Page]) -> None:
    """Raises `DocumentationError` if a page holds a zone's pseudonym. The last look: no query asks for one."""
    found = [page.name for page in pages if TOKEN.search(page.text)]
    if found:
        raise DocumentationError(f"a pseudonym stands on {', '.join(found)}: nothing is shown")


def render(pages: Iterable[Page], profile: str, work: Path, made: Path) -> None:
    """Markdown to HTML, in the order of the contents. Raises `DocumentationError` with MkDocs' own words."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config
    from mkdocs.exceptions import MkDocsException

    source = private_folder(work / "pages")
    groups: dict[str, list[dict[str, str]]] = {}
    for page in pages:
        (source / f"{page.name}.md").write_text(page.text, encoding="utf-8")
        groups.setdefault(page.group, []).append({page.title: f"{page.name}.md"})
    settings = {
        "site_name": f"Segline: {profile}",
        "docs_dir": str(source),
        "site_dir": str(made),
        "use_directory_urls": False,  # a page opened from a folder has no server that would find its index
        "theme": {"name": None, "custom_dir": str(THEME), "static_templates": []},
        "nav": [{group: entries} for group, entries in groups.items()],
        "plugins": [],  # the search of MkDocs needs a script and a server
        "markdown_extensions": ["tables"],
        "strict": True,
    }
    written = work / "mkdocs.yml"
    written.write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
    logger = logging.getLogger("mkdocs")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        build(load_config(config_file=str(written)))
    except (MkDocsException, SystemExit) as error:  # its Abort is both, by version
        raise DocumentationError(f"MkDocs cannot render the pages: {error}") from error
    finally:
        logger.setLevel(level)
    for name in ("sitemap.xml", "sitemap.xml.gz", "site.css"):  # the style stands in each page
        (made / name).unlink(missing_ok=True)


def _replace(folder: Path, made: Path, before: Path) -> None:
    """Two renames: a reader finds the old site or the new, but for the instant between."""
    try:
        if folder.exists():
            os.replace(folder, before)
        os.replace(made, folder)
    except OSError as error:
        if before.exists():
            os.replace(before, folder)
        raise DocumentationError(f"the site cannot be put at {folder}: {error.strerror}; is another build at work?") from error
    shutil.rmtree(before, ignore_errors=True)
