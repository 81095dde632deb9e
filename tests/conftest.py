"""What the whole suite agrees on: the order of its files."""

import pytest

from tests import effort

# Whole runs first, so that no worker ends with one of minutes while the other idles; the two that make what most of the
# others look at begin side by side. Within a rank the order is pytest's own.
ORDER = ("e2e/test_published_run", "dbt/test_dbt_project", "e2e/", "dbt/", "integration/", "unit/rights/", "unit/ledger/", "unit/")


def pytest_configure(config: pytest.Config) -> None:
    effort.in_gate = "not nightly" in (config.option.markexpr or "")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        return next((place for place, part in enumerate(ORDER) if f"tests/{part}" in item.path.as_posix()), len(ORDER))

    items.sort(key=rank)
