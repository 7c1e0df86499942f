"""Tags of an account with a cloud: they go along with contents, follow by themselves, survive a kill, and are never told
where only the cloud knows them. Real processes; what the cloud has is read with the SDK."""
import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobServiceClient, StandardBlobTier

from support.box import ACCOUNT, KEY, Box, wait_until

MIB = 1 << 20


def client(endpoint):
    return BlobServiceClient(endpoint, credential={"account_name": ACCOUNT, "account_key": KEY}, retry_total=0,
                             max_single_put_size=4 * MIB, max_block_size=4 * MIB)


@pytest.fixture(scope="module")
def cloud(module_cloud):
    return module_cloud


@pytest.fixture
def box(tmp_path, wan):
    box = Box(tmp_path / "box", cloud=f"http://127.0.0.1:{wan.port}/{ACCOUNT}").start()
    yield box
    box.kill()


def refused(call, *args, **kwargs):
    with pytest.raises(HttpResponseError) as e:
        call(*args, **kwargs)
    return e.value.status_code, e.value.error_code


def test_tags_reach_the_cloud(box, wan, cloud):
    near, far = client(box.endpoint), client(cloud.endpoint)
    c = near.create_container("reach")
    c.upload_blob("small", b"x", tags={"a": "1", "b c": "d+e /:=_"})
    c.upload_blob("large", b"y" * (9 * MIB), tags={"kind": "shard"})
    c.upload_blob("plain", b"z" * 100000)
    wait_until(box.drained, what="write-back")
    f = far.get_container_client("reach")
    assert f.get_blob_client("small").get_blob_tags() == {"a": "1", "b c": "d+e /:=_"}
    assert f.get_blob_client("large").get_blob_tags() == {"kind": "shard"}
    assert f.get_blob_client("plain").get_blob_tags() == {}
    etags = {n: f.get_blob_client(n).get_blob_properties().etag for n in ("small", "large", "plain")}
    for n in etags:
        c.get_blob_client(n).set_blob_tags({"now": n})
    wait_until(box.drained, what="tags alone")
    for n, etag in etags.items():
        assert f.get_blob_client(n).get_blob_tags() == {"now": n}
        assert f.get_blob_client(n).get_blob_properties().etag == etag
        assert c.get_blob_client(n).get_blob_tags() == {"now": n}
    with wan.lock:
        puts = [t for m, t, _ in wan.requests if m == "PUT" and "comp=tags" in t]
    assert len(puts) == 3
    assert box.metric("upstream_uploads_held_total") == 0


def test_tags_wait_out_an_outage_a_lost_answer_and_a_kill(box, wan, cloud):
    near, far = client(box.endpoint), client(cloud.endpoint)
    c = near.create_container("outage")
    c.upload_blob("b", b"x" * 200000)
    wait_until(box.drained, what="the content")
    wan.outage()
    c.get_blob_client("b").set_blob_tags({"step": "1"})
    c.get_blob_client("b").set_blob_tags({"step": "2"})
    c.upload_blob("later", b"y", tags={"step": "0"})
    c.get_blob_client("later").set_blob_tags({"step": "3"})
    box.kill()
    wan.heal()
    wan.match, wan.lose_answer = f"PUT /{ACCOUNT}/outage/b?comp=tags", 1
    box.start()
    c = client(box.endpoint).get_container_client("outage")
    assert c.get_blob_client("b").get_blob_tags() == {"step": "2"}
    wait_until(box.drained, what="write-back")
    f = far.get_container_client("outage")
    assert f.get_blob_client("b").get_blob_tags() == {"step": "2"}
    assert f.get_blob_client("later").get_blob_tags() == {"step": "3"}
    assert c.download_blob("b").readall() == b"x" * 200000
    assert box.metric("upstream_uploads_held_total") == 0


def test_tags_only_the_cloud_knows_are_counted_not_guessed(box, cloud):
    near, far = client(box.endpoint), client(cloud.endpoint)
    f = far.create_container("far")
    f.upload_blob("tagged", b"x" * 1000, tags={"a": "1", "b": "2"})
    f.upload_blob("bare", b"x" * 1000)
    c = near.get_container_client("far")
    b = c.get_blob_client("tagged")
    assert b.get_blob_properties().tag_count == 2
    assert refused(b.get_blob_tags) == (400, "UnsupportedHeader")
    assert refused(b.download_blob, if_tags_match_condition="a = '1'") == (400, "UnsupportedHeader")
    assert refused(b.delete_blob, if_tags_match_condition="a = '1'") == (400, "UnsupportedHeader")
    assert b.download_blob().readall() == b"x" * 1000
    assert c.get_blob_client("bare").get_blob_tags() == {}
    assert refused(c.download_blob, "bare", if_tags_match_condition="a = '1'") == (412, "ConditionNotMet")
    b.set_blob_tags({"mine": "3"})
    assert b.get_blob_tags() == {"mine": "3"}
    wait_until(box.drained, what="tags")
    assert f.get_blob_client("tagged").get_blob_tags() == {"mine": "3"}


def test_tags_of_a_version_the_cloud_has_replaced_are_held(box, wan, cloud):
    near, far = client(box.endpoint), client(cloud.endpoint)
    c = near.create_container("foreign")
    c.upload_blob("b", b"ours")
    wait_until(box.drained, what="the content")
    wan.outage()
    c.get_blob_client("b").set_blob_tags({"of": "ours"})
    far.get_container_client("foreign").upload_blob("b", b"theirs", overwrite=True)
    wan.heal()
    wait_until(lambda: box.metric("upstream_uploads_held_total") == 1, what="the conflict")
    assert far.get_container_client("foreign").get_blob_client("b").get_blob_tags() == {}


def test_tiers_reach_the_cloud_and_come_from_there(box, wan, cloud):
    near, far = client(box.endpoint), client(cloud.endpoint)
    c = near.create_container("tiers")
    c.upload_blob("small", b"x", standard_blob_tier=StandardBlobTier.Cool)
    c.upload_blob("large", b"y" * (9 * MIB), standard_blob_tier=StandardBlobTier.Cool)
    c.upload_blob("plain", b"z")
    wait_until(box.drained, what="write-back")
    f = far.get_container_client("tiers")
    assert [f.get_blob_client(n).get_blob_properties().blob_tier for n in ("small", "large", "plain")] == ["Cool", "Cool", "Hot"]
    etag = f.get_blob_client("plain").get_blob_properties().etag
    c.get_blob_client("plain").set_standard_blob_tier("Cool")
    c.get_blob_client("small").set_standard_blob_tier("Hot")
    wait_until(box.drained, what="tiers alone")
    there = f.get_blob_client("plain").get_blob_properties()
    assert (there.blob_tier, there.etag) == ("Cool", etag)
    assert f.get_blob_client("small").get_blob_properties().blob_tier == "Hot"
    with wan.lock:
        assert len([t for m, t, _ in wan.requests if m == "PUT" and "comp=tier" in t]) == 2
    assert refused(c.get_blob_client("small").set_standard_blob_tier, "Archive") == (400, "UnsupportedHeader")
    assert refused(c.upload_blob, "cold", b"x", standard_blob_tier=StandardBlobTier.Archive) == (400, "UnsupportedHeader")
    f2 = far.create_container("theirs")
    f2.upload_blob("cool", b"x", standard_blob_tier=StandardBlobTier.Cool)
    f2.upload_blob("gone", b"x")
    f2.get_blob_client("gone").set_standard_blob_tier("Archive")
    c2 = near.get_container_client("theirs")
    assert c2.get_blob_client("cool").get_blob_properties().blob_tier == "Cool"
    assert {b.name: b.blob_tier for b in c2.list_blobs()} == {"cool": "Cool", "gone": "Archive"}
    assert refused(c2.download_blob, "gone") == (409, "BlobArchived")
    assert refused(c2.get_blob_client("gone").set_standard_blob_tier, "Hot") == (400, "UnsupportedHeader")
    assert box.metric("upstream_uploads_held_total") == 0
