"""One Azurite and one Hearth in front of it for all client tests; each test takes a container of its own."""
import os
import sys
import uuid

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
from support import clients  # noqa: E402
from support.box import ACCOUNT, KEY, Azurite, Box  # noqa: E402

# The tests of pypi/ run under the Python of build/clients/python; without one Debian's says why they are skipped.
collect_ignore = ["pypi"] if not clients.absent("python") and not clients.is_own_python() else []


SECOND = "secondaccount"  # local, on the same box


@pytest.fixture(scope="session")
def cloud(tmp_path_factory):
    azurite = Azurite(tmp_path_factory.mktemp("azurite")).start()
    yield azurite
    azurite.stop()


@pytest.fixture(scope="session")
def box(tmp_path_factory, cloud):
    box = Box(tmp_path_factory.mktemp("box"), cloud=cloud.endpoint, size="3GiB", memory="512MiB",
              top=f'account "{SECOND}" {{ key = "{KEY}" public_access = yes contract "*" {{ write = local }} }}',
              account='aliases = { "acct.blob.cache.test" }').start()
    yield box
    code = box.stop()
    assert code == 0, box.text()[-4000:]


@pytest.fixture(scope="session")
def service(box):
    from azure.storage.blob import BlobServiceClient
    return BlobServiceClient(box.endpoint, credential={"account_name": ACCOUNT, "account_key": KEY})


@pytest.fixture(scope="session")
def cloud_service(cloud):
    from azure.storage.blob import BlobServiceClient
    return BlobServiceClient(cloud.endpoint, credential={"account_name": ACCOUNT, "account_key": KEY})


@pytest.fixture
def container(service):
    """A new container's name; what is in it stays for the session."""
    name = "c" + uuid.uuid4().hex[:12]
    service.create_container(name)
    return name


@pytest.fixture(scope="session")
def sas():
    from datetime import datetime, timedelta
    from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas
    return generate_account_sas(ACCOUNT, KEY, ResourceTypes(service=True, container=True, object=True),
                                AccountSasPermissions(read=True, write=True, delete=True, list=True, add=True,
                                                      create=True), datetime.utcnow() + timedelta(days=1))


@pytest.fixture
def second(box):
    """The other account's service and a container's name in it."""
    from azure.storage.blob import BlobServiceClient
    service = BlobServiceClient(box.endpoint.replace(ACCOUNT, SECOND), credential={"account_name": SECOND, "account_key": KEY})
    name = "s" + uuid.uuid4().hex[:12]
    service.create_container(name)
    return service, name


def pytest_terminal_summary(terminalreporter):
    """A test is named for its client: test_azcopy__what_it_shows."""
    passed = {}
    for report in terminalreporter.stats.get("passed", []):
        client = report.nodeid.rpartition("::test_")[2].partition("__")[0]
        passed[client] = passed.get(client, 0) + 1
    for client in sorted(set(passed) & set(clients.VERSIONS)):
        terminalreporter.write_line(f"client {client}: {clients.VERSIONS[client]()}, {passed[client]} passed")
