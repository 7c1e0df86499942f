"""Leases by the SDKs' lease clients: Python's BlobLeaseClient here, JS's in js_flow.js. Against the account that has no
cloud; with a cloud behind, leases are the cloud's."""
import uuid

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError
from azure.storage.blob import BlobLeaseClient


def refused(call, *args, **kwargs):
    with pytest.raises(HttpResponseError) as e:
        call(*args, **kwargs)
    return e.value.status_code, e.value.error_code


def state_of(client):
    lease = (client.get_blob_properties() if hasattr(client, "blob_name") else client.get_container_properties()).lease
    return lease.status, lease.state, lease.duration


def test_python__lease_of_a_blob(second):
    service, name = second
    blob = service.get_blob_client(name, "leased")
    blob.upload_blob(b"1")
    etag = blob.get_blob_properties().etag
    lease = blob.acquire_lease(lease_duration=60)
    assert state_of(blob) == ("locked", "leased", "fixed")
    assert blob.get_blob_properties(lease=lease).etag == lease.etag == etag
    assert refused(blob.upload_blob, b"2", overwrite=True) == (412, "LeaseIdMissing")
    assert refused(blob.upload_blob, b"2") == (412, "LeaseIdMissing")
    assert refused(blob.delete_blob) == (412, "LeaseIdMissing")
    with pytest.raises(ResourceExistsError):
        blob.acquire_lease(lease_duration=15)
    blob.upload_blob(b"2", overwrite=True, lease=lease)
    blob.set_blob_metadata({"a": "b"}, lease=lease.id)
    lease.renew()
    old, new = lease.id, str(uuid.uuid4())
    lease.change(new)
    assert lease.id == new
    assert refused(blob.set_blob_metadata, {}, lease=old) == (412, "LeaseIdMismatchWithBlobOperation")
    assert blob.download_blob(lease=lease).readall() == b"2"
    assert [b.lease.state for b in service.get_container_client(name).list_blobs(name_starts_with="leased")] == ["leased"]
    assert 0 < lease.break_lease() <= 60
    assert state_of(blob) == ("locked", "breaking", None)
    assert lease.break_lease(lease_break_period=0) == 0
    assert state_of(blob) == ("unlocked", "broken", None)
    assert refused(lease.renew) == (409, "LeaseIsBrokenAndCannotBeRenewed")
    lease.acquire()
    assert state_of(blob) == ("locked", "leased", "infinite")
    blob.stage_block("AAAA", b"3", lease=lease)
    blob.commit_block_list([], lease=lease)
    lease.release()
    assert state_of(blob) == ("unlocked", "available", None)
    blob.delete_blob()


def test_python__lease_of_a_container(second):
    service, name = second
    container = service.get_container_client(name)
    with_lease = container.acquire_lease(lease_id=str(uuid.uuid4()))
    assert state_of(container) == ("locked", "leased", "infinite")
    container.get_blob_client("b").upload_blob(b"x")
    container.set_container_metadata({"a": "b"})
    assert refused(container.delete_container) == (412, "LeaseIdMissing")
    assert [c.lease.state for c in service.list_containers(name_starts_with=name)] == ["leased"]
    container.delete_container(lease=with_lease)


def test_python__of_a_cloud_the_lease_is_the_clouds(service, container, cloud_service):
    blob = service.get_blob_client(container, "b")
    blob.upload_blob(b"1")
    for here, there in ((blob, cloud_service.get_blob_client(container, "b")),
                        (service.get_container_client(container), cloud_service.get_container_client(container))):
        lease = here.acquire_lease(lease_duration=60)
        assert state_of(here) == state_of(there) == ("locked", "leased", "fixed")
        assert refused(here.acquire_lease) == (409, "LeaseAlreadyPresent")
        lease.release()
        assert state_of(here) == state_of(there) == ("unlocked", "available", None)
    assert refused(BlobLeaseClient(blob).break_lease) == (409, "LeaseNotPresentWithLeaseOperation")
    blob.upload_blob(b"2", overwrite=True)
