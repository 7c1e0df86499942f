"""Debian's azure-storage-blob, sync and aio: uploads in both ways, ranges, lists, metadata, conditions, errors."""
import asyncio
import hashlib
import random

import pytest
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.storage.blob import BlobBlock, BlobServiceClient, ContentSettings

from support.box import ACCOUNT, KEY, wait_until


def payload(n, seed=1):
    return random.Random(seed).randbytes(n)


@pytest.mark.parametrize("size", [0, 1, 4095, 65536, 65537, 5 << 20])
def test_python__what_was_uploaded_comes_back(service, container, size):
    blob = service.get_blob_client(container, f"dir/{size}")
    blob.upload_blob(payload(size), overwrite=True, metadata={"Step": "12"},
                     content_settings=ContentSettings(content_type="application/x-shard", cache_control="no-cache"))
    p = blob.get_blob_properties()
    assert (p.size, p.metadata, p.content_settings.content_type) == (size, {"Step": "12"}, "application/x-shard")
    assert p.content_settings.cache_control == "no-cache"
    assert blob.download_blob().readall() == payload(size)


def test_python__a_staged_upload_is_one_blob(container, box):
    service = BlobServiceClient(box.endpoint, credential={"account_name": ACCOUNT, "account_key": KEY},
                                max_single_put_size=1 << 20, max_block_size=1 << 20)
    data = payload((9 << 20) + 17)
    blob = service.get_blob_client(container, "staged")
    blob.upload_blob(data, max_concurrency=4)
    assert blob.download_blob(max_concurrency=4).readall() == data
    committed, uncommitted = blob.get_block_list("all")
    assert len(committed) == 10 and uncommitted == []


def test_python__ranges_are_exact_at_every_border(service, container):
    data = payload(200000)
    blob = service.get_blob_client(container, "ranges")
    blob.upload_blob(data)
    for start, length in [(0, 1), (65535, 2), (65536, 65536), (131071, 5), (199999, 1), (199990, 100), (0, 200000)]:
        assert blob.download_blob(offset=start, length=length).readall() == data[start:start + length]
    with pytest.raises(HttpResponseError) as e:
        blob.download_blob(offset=200000, length=1)
    assert e.value.status_code == 416


def test_python__blocks_can_be_reused_and_unknown_ones_are_refused(service, container):
    blob = service.get_blob_client(container, "blocks")
    for n in range(3):
        blob.stage_block(f"{n:08d}", payload(100000, n))
    blob.commit_block_list([BlobBlock(f"{n:08d}") for n in (2, 0)])
    assert blob.download_blob().readall() == payload(100000, 2) + payload(100000, 0)
    with pytest.raises(HttpResponseError) as e:
        blob.commit_block_list([BlobBlock("99999999")])
    assert e.value.error_code == "InvalidBlockList"
    blob.stage_block("00000007", b"tail")
    blob.commit_block_list([BlobBlock("00000000"), BlobBlock("00000007"), BlobBlock("00000000")])
    assert blob.download_blob().readall() == payload(100000, 0) + b"tail" + payload(100000, 0)
    with pytest.raises(HttpResponseError) as e:
        blob.stage_block("7", b"x")
        blob.stage_block("0000000000", b"x")
    assert e.value.error_code == "InvalidBlobOrBlock"


def test_python__an_uncommitted_blob_is_not_there_yet(service, container):
    blob = service.get_blob_client(container, "uncommitted")
    blob.stage_block("a" * 8, b"x")
    assert not blob.exists()
    names = [b.name for b in service.get_container_client(container).list_blobs(include=["uncommittedblobs"])]
    assert names == ["uncommitted"]
    assert list(service.get_container_client(container).list_blobs()) == []


def test_python__conditions_hold(service, container):
    blob = service.get_blob_client(container, "cond")
    first = blob.upload_blob(b"1")
    with pytest.raises(ResourceExistsError):
        blob.upload_blob(b"2")
    second = blob.upload_blob(b"2", overwrite=True, etag=first["etag"], match_condition=MatchConditions.IfNotModified)
    with pytest.raises(ResourceModifiedError):
        blob.upload_blob(b"3", overwrite=True, etag=first["etag"], match_condition=MatchConditions.IfNotModified)
    with pytest.raises(HttpResponseError) as e:
        blob.download_blob(etag=second["etag"], match_condition=MatchConditions.IfModified)
    assert e.value.status_code == 304
    assert blob.download_blob().readall() == b"2"
    with pytest.raises(ResourceNotFoundError):
        service.get_blob_client(container, "absent").get_blob_properties()


def test_python__listing_pages_prefixes_and_metadata(service, container):
    c = service.get_container_client(container)
    names = sorted([f"a/{i:03d}" for i in range(25)] + [f"b/x/{i}" for i in range(5)] + ["c", "a"])
    for n in names:
        c.upload_blob(n, b"x", metadata={"n": n.encode().hex()})
    assert [b.name for b in c.list_blobs(results_per_page=7)] == names
    assert [b.name for b in c.list_blobs(name_starts_with="a/01")] == [f"a/01{i}" for i in range(10)]
    top = sorted(i.name for i in c.walk_blobs(delimiter="/", results_per_page=2))  # it puts prefixes first in a page
    assert top == ["a", "a/", "b/", "c"]
    assert {b.name: b.metadata["n"] for b in c.list_blobs(include=["metadata"])} == {n: n.encode().hex() for n in names}


def test_python__properties_and_metadata_change_the_etag(service, container):
    blob = service.get_blob_client(container, "props")
    e0 = blob.upload_blob(b"x", metadata={"a": "1"})["etag"]
    e1 = blob.set_blob_metadata({"b": "2"})["etag"]
    e2 = blob.set_http_headers(ContentSettings(content_type="text/x", content_language="en"))["etag"]
    p = blob.get_blob_properties()
    assert len({e0, e1, e2}) == 3 and p.etag == e2
    assert p.metadata == {"b": "2"} and p.content_settings.content_type == "text/x"


@pytest.mark.parametrize("name", ["a//b", "/lead", "trail/", "sp ace", "pl+us", "per%cent", "%2F",
                                  "q?uery", "ha#sh", "ünï", "\U0001f600"])
def test_python__names_stay_as_sent(service, container, name):
    c = service.get_container_client(container)
    c.upload_blob(name, name.encode())
    assert [b.name for b in c.list_blobs()] == [name]
    assert c.download_blob(name).readall() == name.encode()


def test_python__written_blobs_reach_the_cloud_with_headers_and_metadata(box, service, cloud_service, container):
    data = payload(3 << 20)
    service.get_blob_client(container, "w").upload_blob(data, metadata={"k": "v"}, content_settings=ContentSettings(
        content_type="a/b", content_encoding="x", content_md5=bytearray(hashlib.md5(data).digest())))
    service.get_blob_client(container, "gone").upload_blob(b"x")
    service.get_blob_client(container, "gone").delete_blob()
    wait_until(box.drained, what="write-back")
    there = cloud_service.get_blob_client(container, "w")
    p = there.get_blob_properties()
    assert there.download_blob().readall() == data
    assert (p.metadata, p.content_settings.content_type, p.content_settings.content_encoding) == ({"k": "v"}, "a/b", "x")
    assert not cloud_service.get_blob_client(container, "gone").exists()


def test_python__what_only_the_cloud_has_is_read_through(box, service, cloud_service):
    cloud_service.create_container("cloudonly")
    data = payload((5 << 20) + 3)
    cloud_service.get_blob_client("cloudonly", "d/big").upload_blob(data, metadata={"k": "v"})
    cloud_service.get_blob_client("cloudonly", "d/small").upload_blob(b"small")
    cloud_service.get_blob_client("cloudonly", "empty").upload_blob(b"")
    assert service.get_blob_client("cloudonly", "d/big").download_blob().readall() == data
    assert service.get_blob_client("cloudonly", "d/small").get_blob_properties().size == 5
    assert service.get_blob_client("cloudonly", "empty").download_blob().readall() == b""
    c = service.get_container_client("cloudonly")
    assert [b.name for b in c.list_blobs()] == ["d/big", "d/small", "empty"]
    assert [b.name for b in c.walk_blobs(delimiter="/")] == ["d/", "empty"]
    assert not service.get_blob_client("cloudonly", "absent").exists()


def test_python__aio_uploads_and_downloads(box, container):
    from azure.storage.blob.aio import BlobServiceClient as Aio

    async def flow():
        async with Aio(box.endpoint, credential={"account_name": ACCOUNT, "account_key": KEY}) as s:
            blobs = [s.get_blob_client(container, f"aio/{n},{n}") for n in range(16)]
            await asyncio.gather(*(b.upload_blob(payload(70000, n)) for n, b in enumerate(blobs)))
            for n, b in enumerate(blobs):
                assert await (await b.download_blob()).readall() == payload(70000, n)

    asyncio.run(flow())


def test_python__a_batch_deletes_here_and_in_the_cloud(service, cloud_service, container):
    """The SDK writes the parts' paths without the account, signed so."""
    names = [f"batch/{n} %20\u00e9" for n in range(5)]
    client, cloud = service.get_container_client(container), cloud_service.get_container_client(container)
    for name in names:
        client.upload_blob(name, b"x")
    wait_until(lambda: len(list(cloud.list_blobs())) == 5, what="the uploads")
    assert [p.status_code for p in client.delete_blobs(*names[:3])] == [202] * 3
    parts = client.delete_blobs(names[0], names[3], raise_on_any_failure=False)
    assert [(p.status_code, p.headers.get("x-ms-error-code")) for p in parts] == [(404, "BlobNotFound"), (202, None)]
    with pytest.raises(HttpResponseError, match="partial failure"):
        client.delete_blobs(names[0], names[4])
    assert list(client.list_blobs()) == []
    wait_until(lambda: not list(cloud.list_blobs()), what="the deletes in the cloud")


def test_python__a_batch_under_a_sas(box, container, sas):
    client = BlobServiceClient(box.endpoint, credential=sas).get_container_client(container)
    for name in "ab":
        client.upload_blob(name, b"x")
    assert [p.status_code for p in client.delete_blobs("a", "b")] == [202] * 2
    assert list(client.list_blobs()) == []


# ---- snapshots: of the local account ----

def test_python__snapshots_are_taken_listed_read_copied_deleted(second):
    service, container = second
    blob = service.get_blob_client(container, "dir/b")
    texts, taken = [payload(n, n) for n in (100, 200000)], []
    for text in texts:
        blob.upload_blob(text, overwrite=True, metadata={"len": str(len(text))})
        taken.append(blob.create_snapshot(metadata={"kept": "1"} if len(text) == 100 else None)["snapshot"])
    old = [service.get_blob_client(container, "dir/b", snapshot=s) for s in taken]
    assert [o.download_blob().readall() for o in old] == texts
    assert [o.get_blob_properties().metadata for o in old] == [{"kept": "1"}, {"len": "200000"}]
    assert old[1].get_blob_properties().etag == blob.get_blob_properties().etag
    listed = [(b.name, b.snapshot) for b in service.get_container_client(container).list_blobs(include=["snapshots"])]
    assert listed == [("dir/b", taken[0]), ("dir/b", taken[1]), ("dir/b", None)]
    with pytest.raises(ResourceExistsError) as e:
        blob.delete_blob()
    assert e.value.error_code == "SnapshotsPresent"
    blob.start_copy_from_url(old[0].url)  # promoted
    assert blob.download_blob().readall() == texts[0]
    old[0].delete_blob()
    with pytest.raises(ResourceNotFoundError):
        old[0].get_blob_properties()
    assert old[1].download_blob().readall() == texts[1]
    blob.delete_blob(delete_snapshots="only")
    assert blob.exists() and not old[1].exists()
    blob.create_snapshot()
    blob.delete_blob(delete_snapshots="include")
    assert not blob.exists()


def test_python_aio__a_snapshot_holds_while_the_blob_is_overwritten(second):
    from azure.storage.blob.aio import BlobServiceClient as Aio
    service, container = second

    async def flow():
        async with Aio(service.url, credential=service.credential) as aio:
            blob = aio.get_blob_client(container, "aio")
            await blob.upload_blob(payload(70000), overwrite=True)
            snapshots = [s["snapshot"] for s in await asyncio.gather(*(blob.create_snapshot() for _ in range(8)))]
            await blob.upload_blob(b"other", overwrite=True)
            for s in snapshots:
                old = aio.get_blob_client(container, "aio", snapshot=s)
                assert await (await old.download_blob()).readall() == payload(70000)
            return snapshots

    assert len(set(asyncio.run(flow()))) == 8
