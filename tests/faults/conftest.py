import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))

from support.box import Azurite, Box  # noqa: E402
from support.wan_proxy import WanProxy  # noqa: E402


@pytest.fixture
def cloud(tmp_path):
    azurite = Azurite(tmp_path / "azurite").start()
    yield azurite
    azurite.stop()


@pytest.fixture(scope="module")
def module_cloud(tmp_path_factory):
    """One for all tests of a file that do not stop it: `cloud` there."""
    azurite = Azurite(tmp_path_factory.mktemp("azurite")).start()
    yield azurite
    azurite.stop()


@pytest.fixture
def wan(cloud):
    proxy = WanProxy("127.0.0.1", cloud.port).start()
    yield proxy
    proxy.stop()


@pytest.fixture
def box(tmp_path, cloud):
    box = Box(tmp_path / "box", cloud=cloud.endpoint).start()
    yield box
    box.kill()
