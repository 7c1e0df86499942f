"""Batches of the newest azure-storage-blob, to a path-style account."""
import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import PartialBatchErrorException

from support import clients

clients.folder("python", "the newest azure-storage-blob")


def test_python__delete_blobs_is_one_request_for_many(service, container):
    c = service.get_container_client(container)
    names = [f"d/{n} ü&" for n in range(40)]
    for n in names + ["kept"]:
        c.upload_blob(n, n.encode())
    assert [part.status_code for part in c.delete_blobs(*names)] == [202] * 40
    assert [b.name for b in c.list_blobs()] == ["kept"]
    with pytest.raises(PartialBatchErrorException) as e:
        c.delete_blobs("absent", "kept")
    assert sorted(part.status_code for part in e.value.parts) == [202, 404]
    assert list(c.list_blobs()) == []


def test_python__a_deleted_container_says_so(service, container):
    service.delete_container(container)
    with pytest.raises(HttpResponseError) as e:
        service.get_blob_client(container, "x").upload_blob(b"x")
    assert e.value.error_code == "ContainerNotFound"
