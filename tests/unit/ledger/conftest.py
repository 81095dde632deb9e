"""A fresh small tenant for every test that wants one."""

import pytest
from small_tenant import Tenant, a_book


@pytest.fixture
def tenant(tmp_path) -> Tenant:
    return Tenant(tmp_path / "home", a_book())
