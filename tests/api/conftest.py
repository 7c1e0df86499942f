"""One Hearth per test file, local only; or the endpoint that HEARTH_ENDPOINT, HEARTH_ACCOUNT and HEARTH_KEY name."""
import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
from support.azure import Client  # noqa: E402
from support.box import ACCOUNT, KEY, Box  # noqa: E402


@pytest.fixture(scope="module")
def hearth(tmp_path_factory):
    """A started Box, stopped in order afterwards."""
    box = Box(tmp_path_factory.mktemp("box")).start()
    yield box
    code = box.stop()
    assert code == 0, box.text()[-4000:]


@pytest.fixture(scope="module")
def api(request):
    """A signing raw client of the endpoint under test."""
    endpoint = os.environ.get("HEARTH_ENDPOINT") or request.getfixturevalue("hearth").endpoint
    return Client(endpoint, os.environ.get("HEARTH_ACCOUNT", ACCOUNT), os.environ.get("HEARTH_KEY", KEY))

