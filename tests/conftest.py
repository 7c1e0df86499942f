"""What a test that passed leaves behind is removed at once: boxes are GiB, and CI's disk may hold only a few."""
import shutil

import pytest


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_makereport(item):
    report = (yield).get_result()
    item.broken = getattr(item, "broken", False) or report.failed


@pytest.fixture
def tmp_path(request, tmp_path):
    """Torn down after everything that lies in it; kept where the test failed."""
    yield tmp_path
    if not getattr(request.node, "broken", True):
        shutil.rmtree(tmp_path, ignore_errors=True)
