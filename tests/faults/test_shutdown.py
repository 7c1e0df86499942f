"""Goal: SIGTERM ends the box in order whatever the WAN does, with requests to the cloud outstanding.
Real processes: a box, the proxy of tests/support/wan_proxy.py, Azurite."""
import pytest
from azure.storage.blob import BlobServiceClient

from support.box import ACCOUNT, KEY, Box, wait_until


@pytest.fixture
def box(tmp_path, wan):
    box = Box(tmp_path / "box", cloud=f"http://127.0.0.1:{wan.port}/{ACCOUNT}",
              contracts='contract "*" { write = back fresh = "bounded 1s" }').start()
    yield box
    box.kill()


def client(endpoint):
    return BlobServiceClient(endpoint, credential={"account_name": ACCOUNT, "account_key": KEY}, retry_total=0)


def test_an_answer_nobody_waits_for_any_more_does_not_hurt(box, wan, cloud):
    """A revalidation that went over its budget outlives its request; its answer comes at shutdown."""
    client(cloud.endpoint).create_container("shut").upload_blob("b", b"x" * 1000)
    blob = client(box.endpoint).get_blob_client("shut", "b")
    assert blob.download_blob().readall() == b"x" * 1000
    before = box.metric("upstream_requests_total")
    wan.stall = True

    def asked_again():  # the knowledge has expired: served as held, the cloud is asked meanwhile
        assert blob.download_blob().readall() == b"x" * 1000
        return box.metric("upstream_requests_total") > before

    wait_until(asked_again, what="a revalidation")
    assert box.stop() == 0, box.text()
    assert " stopped" in box.text()
