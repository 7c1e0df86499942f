"""What is the cloud's to promise goes through: leases, access policies, service properties of an account with a cloud
behind it. An answer that is lost leaves its name in doubt until the cloud has said what it is now; nothing is sent twice.
Real processes: a box, the proxy of tests/support/wan_proxy.py, Azurite."""
import os
import signal
import uuid
from datetime import datetime, timedelta, timezone

import pytest
from azure.core import MatchConditions
from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.storage.blob import (AccessPolicy, BlobLeaseClient, BlobServiceClient, ContainerClient, ContainerSasPermissions,
                                generate_container_sas)

from support.box import ACCOUNT, KEY, ROOT, Box, wait_until

ASAN = os.path.join(ROOT, "build/asan/hearth")
CONTRACTS = """contract "here/*" { write = local } contract "strict/*" { write = back offline = fail }
               contract "*" { write = back }"""


def client(endpoint, **options):
    return BlobServiceClient(endpoint, credential={"account_name": ACCOUNT, "account_key": KEY}, retry_total=0, **options)


@pytest.fixture(scope="module")
def cloud(module_cloud):
    return module_cloud


@pytest.fixture
def box(tmp_path, wan):
    box = Box(tmp_path / "box", cloud=f"http://127.0.0.1:{wan.port}/{ACCOUNT}", contracts=CONTRACTS).start()
    yield box
    box.kill()


@pytest.fixture
def name():
    return "c" + uuid.uuid4().hex[:12]


@pytest.fixture
def blob(box, cloud, name):
    """One that the cloud has and the box knows."""
    there = client(cloud.endpoint).create_container(name).get_blob_client("a b/ü")
    there.upload_blob(b"old")
    here = client(box.endpoint).get_blob_client(name, "a b/ü")
    assert here.download_blob().readall() == b"old"
    return here


def there(cloud, blob):
    return client(cloud.endpoint).get_blob_client(blob.container_name, blob.blob_name)


def sent(wan, what):
    return sum(what in f"{m} {t}" for m, t, _ in wan.requests)


def no_doubt(box):
    return box.metric("doubts") == 0


def refused(call, *args, **kwargs):
    with pytest.raises(HttpResponseError) as e:
        call(*args, **kwargs)
    return e.value.status_code, e.value.error_code


# ---- as it should go ----

def test_a_lease_is_the_clouds(box, cloud, blob):
    lease = blob.acquire_lease(lease_duration=60)
    assert there(cloud, blob).get_blob_properties().lease.state == "leased"
    assert blob.get_blob_properties().lease.state == "leased" and blob.get_blob_properties().lease.duration == "fixed"
    assert refused(there(cloud, blob).upload_blob, b"x", overwrite=True) == (412, "LeaseIdMissing")
    assert refused(blob.acquire_lease) == (409, "LeaseAlreadyPresent")
    assert lease.etag == blob.get_blob_properties().etag  # one version, one name here
    lease.renew()
    change = str(uuid.uuid4())
    lease.change(change)
    assert lease.id == change
    assert refused(BlobLeaseClient(blob, str(uuid.uuid4())).renew) == (409, "LeaseIdMismatchWithLeaseOperation")
    lease.release()
    for endpoint in (box.endpoint, cloud.endpoint):
        assert client(endpoint).get_blob_client(blob.container_name, blob.blob_name).get_blob_properties().lease.state == "available"
    again = blob.acquire_lease(lease_duration=-1, etag=blob.get_blob_properties().etag,
                               match_condition=MatchConditions.IfNotModified)
    assert blob.get_blob_properties().lease.duration == "infinite"
    listed = client(box.endpoint).get_container_client(blob.container_name).list_blobs()
    assert [b.lease.state for b in listed] == ["leased"]
    assert again.break_lease(lease_break_period=0) == 0
    assert blob.get_blob_properties().lease.state == "broken"
    with pytest.raises(ResourceModifiedError):
        blob.acquire_lease(etag='"0x1"', match_condition=MatchConditions.IfNotModified)
    assert blob.download_blob().readall() == b"old"
    wait_until(lambda: no_doubt(box), what="the names to be known")


def test_a_container_is_leased_in_the_cloud(box, cloud, name):
    here = client(box.endpoint).create_container(name)  # on its way there: waited for
    lease = here.acquire_lease(lease_duration=-1)
    far = client(cloud.endpoint).get_container_client(name)
    assert far.get_container_properties().lease.state == "leased"
    assert here.get_container_properties().lease.duration == "infinite"
    assert [c.lease.state for c in client(box.endpoint).list_containers(name)] == ["leased"]
    assert refused(here.acquire_lease) == (409, "LeaseAlreadyPresent")
    lease.release()
    assert far.get_container_properties().lease.state == "available"
    assert refused(client(box.endpoint).get_container_client("nowhere" + name).acquire_lease)[0] == 404


def test_a_condition_by_the_name_the_box_gave(box, wan, cloud, name):
    here = client(box.endpoint).create_container(name)
    wan.delay = 0.1  # it has the box's names when the lease comes
    written = here.get_blob_client("b").upload_blob(b"x")
    lease = here.get_blob_client("b").acquire_lease(etag=written["etag"], match_condition=MatchConditions.IfNotModified,
                                                    if_unmodified_since=written["last_modified"])
    assert lease.etag == written["etag"] == here.get_blob_client("b").get_blob_properties().etag
    wan.delay = 0
    lease.release()
    before = here.get_container_properties().etag
    assert here.acquire_lease(15).etag == before == here.get_container_properties().etag


def test_access_policies_are_the_clouds(box, cloud, name):
    here = client(box.endpoint).create_container(name)
    policy = {"r": AccessPolicy(permission=ContainerSasPermissions(read=True))}
    here.set_container_access_policy(policy, public_access="blob")
    for endpoint in (box.endpoint, cloud.endpoint):
        got = client(endpoint).get_container_client(name).get_container_access_policy()
        assert got["public_access"] == "blob" and [i.id for i in got["signed_identifiers"]] == ["r"]
    assert here.set_container_access_policy({})["etag"] == here.get_container_properties().etag
    assert client(cloud.endpoint).get_container_client(name).get_container_access_policy()["signed_identifiers"] == []


def test_service_properties_are_the_clouds(box, cloud):
    client(box.endpoint).set_service_properties(target_version="2021-08-06")
    assert client(box.endpoint).get_service_properties()["target_version"] == "2021-08-06"
    assert client(cloud.endpoint).get_service_properties()["target_version"] == "2021-08-06"


def test_an_unsent_change_goes_first(box, wan, cloud, name):
    here = client(box.endpoint).create_container(name)
    wait_until(box.drained, what="the container")
    wan.match, wan.fail = f"PUT /{ACCOUNT}/{name}/b", [503, 3]
    here.upload_blob("b", b"new")
    lease = here.get_blob_client("b").acquire_lease()
    assert wan.fail == [503, 0]
    assert client(cloud.endpoint).get_blob_client(name, "b").download_blob().readall() == b"new"
    lease.release()
    wan.fail = [503, 10000]
    here.upload_blob("b", b"newer", overwrite=True)
    assert refused(here.get_blob_client("b").acquire_lease, timeout=1) == (503, "ServerBusy")
    wan.fail = [503, 0]


def test_a_scope_of_this_box_alone_asks_nobody(box, wan):
    here = client(box.endpoint).create_container("here")
    here.upload_blob("b", b"x")
    wan.reset()
    lease = here.get_blob_client("b").acquire_lease()
    assert here.get_blob_client("b").get_blob_properties().lease.state == "leased"
    lease.release()
    in_an_hour = datetime.now(timezone.utc) + timedelta(hours=1)
    here.set_container_access_policy({"r": AccessPolicy(ContainerSasPermissions(read=True), in_an_hour)})
    assert [i.id for i in here.get_container_access_policy()["signed_identifiers"]] == ["r"]
    sas = generate_container_sas(ACCOUNT, "here", account_key=KEY, policy_id="r")
    assert ContainerClient.from_container_url(f"{here.url}?{sas}").download_blob("b").readall() == b"x"
    assert not wan.requests


# ---- as it goes otherwise ----

def test_an_outage_is_told(box, wan, cloud, blob):
    wan.gone()
    assert refused(blob.acquire_lease) == (503, "ServerBusy")
    assert refused(client(box.endpoint).get_service_properties) == (503, "ServerBusy")
    assert blob.download_blob().readall() == b"old"
    wait_until(lambda: no_doubt(box), what="nothing to be in doubt")
    wan.back()

    def leases():
        try:
            return blob.acquire_lease()
        except AzureError:
            return None

    wait_until(leases, seconds=15, what="the breaker to close").release()


def test_a_lost_answer_is_proved_and_sent_once(box, wan, cloud, blob):
    mine = str(uuid.uuid4())
    wan.reset()
    wan.match, wan.lose_answer = f"PUT /{ACCOUNT}/{blob.container_name}", 1
    assert refused(blob.acquire_lease, lease_id=mine) == (500, "OperationTimedOut")
    assert sent(wan, "comp=lease") == 1
    assert box.metric("doubts") == 1 and box.metric("upstream_forwards_lost_total") == 1
    assert there(cloud, blob).get_blob_properties().lease.state == "leased"  # it took effect
    assert blob.download_blob().readall() == b"old"  # asked for, not believed
    assert sent(wan, "HEAD") >= 1
    lease = blob.acquire_lease(lease_id=mine)  # its turn comes when that is over
    assert lease.id == mine and sent(wan, "comp=lease") == 2
    lease.release()
    wait_until(lambda: no_doubt(box), what="the outcome")


def test_a_name_in_doubt_while_the_cloud_is_silent(box, wan, cloud, name):
    names = (name, "strict")
    for c in names:
        client(cloud.endpoint).create_container(c).upload_blob("b", b"old")
    blobs = [client(box.endpoint).get_blob_client(c, "b") for c in names]
    for b in blobs:
        assert b.download_blob().readall() == b"old"
        wan.match, wan.lose_answer = f"PUT /{ACCOUNT}/{b.container_name}", 1
        assert refused(b.acquire_lease)[0] == 500
    wan.outage()
    assert box.metric("doubts") == 2
    got = blobs[0].download_blob()
    assert got.readall() == b"old"
    assert refused(blobs[1].download_blob)[0] == 503  # offline = fail
    box.kill()
    box.start()  # nothing of it is forgotten
    assert box.metric("doubts") == 2
    assert blobs[0].download_blob().readall() == b"old"
    assert refused(blobs[1].download_blob)[0] == 503
    wan.heal()
    wait_until(lambda: no_doubt(box), what="the outcome")
    assert blobs[1].download_blob().readall() == b"old"
    for b in blobs:
        BlobLeaseClient(b).break_lease(0)
    assert box.stop() == 0
    assert box.check() == []


@pytest.mark.parametrize("point,leased", (("forward_marked", "available"), ("forward_answered", "leased")))
def test_killed_between_mark_and_outcome(tmp_path, wan, cloud, name, point, leased):
    there_ = client(cloud.endpoint).create_container(name).get_blob_client("b")
    there_.upload_blob(b"old")
    box = Box(tmp_path / "box", cloud=f"http://127.0.0.1:{wan.port}/{ACCOUNT}", binary=ASAN)
    try:
        box.launch(env={"HEARTH_FAILPOINT": f"{point}:1"})
        assert box.serves()
        here = client(box.endpoint).get_blob_client(name, "b")
        assert here.download_blob().readall() == b"old"
        with pytest.raises(AzureError):
            here.acquire_lease()
        assert box.end(signal.SIGKILL) == -signal.SIGKILL
        assert there_.get_blob_properties().lease.state == leased
        wan.reset()
        box.start()
        assert "changes that were forwarded are proved" in box.text()
        assert here.download_blob().readall() == b"old"
        wait_until(lambda: no_doubt(box), what="the outcome")
        assert sent(wan, "PUT") == 0
        assert box.stop() == 0
        assert box.check() == []
        assert "AddressSanitizer" not in box.text() and "runtime error" not in box.text()
    finally:
        box.kill()
