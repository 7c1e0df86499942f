"""azstoragetorch's BlobIO, what torch.save and torch.load are given: it fails when an answer lacks the request's id."""
import random
from datetime import datetime, timedelta, timezone

import pytest
from azure.storage.blob import ContainerSasPermissions, generate_container_sas

from support import clients
from support.box import ACCOUNT, KEY

clients.folder("python", "azstoragetorch")
from azstoragetorch.io import BlobIO  # noqa: E402


def payload(n, seed=1):
    return random.Random(seed).randbytes(n)


@pytest.fixture
def url(box, container):
    sas = generate_container_sas(ACCOUNT, container, account_key=KEY, expiry=datetime.now(timezone.utc) + timedelta(hours=1),
                                 permission=ContainerSasPermissions(read=True, write=True, create=True))
    return lambda name: f"{box.endpoint}/{container}/{name}?{sas}"


@pytest.mark.parametrize("size", [0, 1, 5000, (70 << 20) + 3])
def test_azstoragetorch__what_was_saved_is_loaded(url, size):
    data = payload(size)
    with BlobIO(url("model.pt"), "wb") as f:
        for at in range(0, size, 1 << 20):
            f.write(data[at:at + (1 << 20)])
    with BlobIO(url("model.pt"), "rb") as f:
        assert f.read() == data


def test_azstoragetorch__reads_as_a_loader_of_zip_files_does(url):
    """From the end, then here and there, then lines."""
    data = payload(20 << 20)
    with BlobIO(url("zip"), "wb") as f:
        f.write(data)
    with BlobIO(url("zip"), "rb") as f:
        f.seek(-1000, 2)
        assert f.read() == data[-1000:]
        for at, n in [(0, 4), (10 << 20, 100000), (65535, 2)]:
            f.seek(at)
            assert f.read(n) == data[at:at + n]
        f.seek(0)
        assert f.readline() == data[:data.index(b"\n") + 1]


def test_azstoragetorch__nothing_is_there_until_it_is_closed(url, service, container):
    f = BlobIO(url("late"), "wb")
    f.write(payload(40 << 20))
    f.flush()
    blob = service.get_blob_client(container, "late")
    assert not blob.exists()
    f.close()
    assert blob.get_blob_properties().size == 40 << 20
