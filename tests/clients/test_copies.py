"""Copies whose source is this box, by those who make them: the Python SDK, azcopy account to account, rclone's
server-side copy and move, and adlfs' rename by its exact requests (adlfs itself: pypi/test_adlfs.py)."""
import hashlib
import random
from datetime import datetime, timedelta

import pytest
from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import (AccountSasPermissions, BlobBlock, BlobSasPermissions, ContentSettings, ResourceTypes,
                                generate_account_sas, generate_blob_sas)

from support import tree
from support.box import ACCOUNT, KEY, wait_until
from test_azcopy import azcopy
from test_rclone import rclone

SECOND = "secondaccount"


def payload(n, seed=1):
    return random.Random(seed).randbytes(n)


def source_url(service, account, container, blob):
    sas = generate_blob_sas(account, container, blob, account_key=KEY, permission=BlobSasPermissions(read=True),
                            expiry=datetime.utcnow() + timedelta(hours=1))
    return service.get_blob_client(container, blob).url + "?" + sas


def account_sas(account):
    return generate_account_sas(account, KEY, ResourceTypes(service=True, container=True, object=True),
                                AccountSasPermissions(read=True, write=True, delete=True, list=True, add=True, create=True),
                                datetime.utcnow() + timedelta(days=1))


@pytest.mark.parametrize("size", [0, 1000, 9 << 20])
def test_python__start_copy_is_done_when_it_returns(service, container, second, size, box, cloud_service):
    source = service.get_blob_client(container, "dir/source ü")
    source.upload_blob(payload(size), metadata={"Step": "7"}, content_settings=ContentSettings(content_type="x/y"))
    target = service.get_blob_client(container, "target")
    started = target.start_copy_from_url(source.url)
    p = target.get_blob_properties()
    assert started["copy_status"] == p.copy.status == "success" and started["copy_id"] == p.copy.id
    assert (p.copy.progress, p.copy.source, p.size) == (f"{size}/{size}", source.url, size)
    assert (p.metadata, p.content_settings.content_type) == ({"Step": "7"}, "x/y")
    assert target.download_blob().readall() == payload(size)
    synchronous = target.start_copy_from_url(source_url(service, ACCOUNT, container, "dir/source ü"), requires_sync=True)
    assert synchronous["copy_status"] == "success"
    with pytest.raises(ResourceExistsError):
        target.abort_copy(synchronous["copy_id"])
    with pytest.raises(ResourceNotFoundError) as e:
        target.start_copy_from_url(source.url + "none")
    assert e.value.error_code == "CannotVerifyCopySource"
    wait_until(box.drained, what="write-back")
    assert cloud_service.get_blob_client(container, "target").download_blob().readall() == payload(size)


@pytest.mark.parametrize("size", [0, 1000, 9 << 20])
def test_python__upload_blob_from_url_between_accounts(service, container, second, size):
    other, there = second
    service.get_blob_client(container, "source").upload_blob(payload(size), content_settings=ContentSettings(content_type="x/y"))
    target = other.get_blob_client(there, "target")
    target.upload_blob_from_url(source_url(service, ACCOUNT, container, "source"))
    p = target.get_blob_properties()
    assert target.download_blob().readall() == payload(size)
    assert (p.metadata, p.content_settings.content_type, p.copy.id) == ({}, "x/y", None)
    target.upload_blob_from_url(source_url(service, ACCOUNT, container, "source"), overwrite=True,
                                include_source_blob_properties=False, source_content_md5=hashlib.md5(payload(size)).digest())
    assert target.get_blob_properties().content_settings.content_type == "application/octet-stream"


def test_python__blocks_staged_from_urls(service, container, second):
    other, there = second
    data = payload(9 << 20)
    service.get_blob_client(container, "source").upload_blob(data)
    target, url = other.get_blob_client(there, "target"), source_url(service, ACCOUNT, container, "source")
    for n in range(3):
        target.stage_block_from_url(f"{n:04d}", url, source_offset=n * (3 << 20), source_length=3 << 20)
    target.commit_block_list([BlobBlock(f"{n:04d}") for n in (2, 0, 1)])
    assert target.download_blob().readall() == data[6 << 20:] + data[:6 << 20]


def test_azcopy__account_to_account(box, service, container, second, tmp_path):
    """Put Blob From URL for what is one block, Put Block From URL and a block list for the rest."""
    other, there = second
    root = str(tmp_path / "t")
    for i in range(20):
        tree.fill(f"{root}/d{i % 3}/f {i}", 3000 * i, i)
    tree.fill(f"{root}/large", 21 << 20, "large")
    here_url = f"{box.endpoint}/{container}?{account_sas(ACCOUNT)}"
    there_url = f"{box.endpoint.replace(ACCOUNT, SECOND)}/{there}?{account_sas(SECOND)}"
    azcopy("copy", root + "/*", here_url, "--recursive", "--put-md5", "--from-to=LocalBlob", folder=str(tmp_path / "a"))
    service.get_blob_client(container, "large").set_standard_blob_tier("Cool")
    out = azcopy("copy", here_url.replace("?", "/*?"), there_url, "--recursive", "--from-to=BlobBlob", "--block-size-mb=8",
                 folder=str(tmp_path / "b"))
    assert "Number of File Transfers Failed: 0" in out or "Failed: 0" in out, out
    azcopy("copy", there_url.replace("?", "/*?"), str(tmp_path / "down"), "--recursive", "--from-to=BlobLocal",
           "--check-md5=FailIfDifferent", folder=str(tmp_path / "c"))
    assert tree.digests(str(tmp_path / "down")) == tree.digests(root)
    large = other.get_blob_client(there, "large")
    assert len(large.get_block_list("committed")[0]) == 3
    assert large.get_blob_properties().blob_tier == "Cool"
    source = service.get_blob_client(container, "large").get_blob_properties()
    assert large.get_blob_properties().content_settings.content_md5 == source.content_settings.content_md5


def test_rclone__copies_and_moves_on_the_server(box, container, tmp_path):
    root = str(tmp_path / "up")
    for i in range(10):
        tree.fill(f"{root}/f {i}", 10000 * i, i)
    tree.fill(f"{root}/big", 9 << 20, "big")
    rclone(box, "copy", root, f"h:{container}/x")
    rclone(box, "copy", f"h:{container}/x", f"h:{container}/y")
    rclone(box, "check", root, f"h:{container}/y")
    rclone(box, "move", f"h:{container}/x", f"h:{container}/z")
    rclone(box, "check", root, f"h:{container}/z")
    assert "x/" not in rclone(box, "lsf", "-R", f"h:{container}")


def test_python__renames_as_adlfs_does_for_a_checkpoint(box, service, container, cloud_service):
    """PyTorch DCP's FsspecWriter: shards, .metadata.tmp, .metadata removed if there, then a rename: copy + delete."""
    c = service.get_container_client(container)
    for step in range(3):
        for rank in range(2):
            blob = c.get_blob_client(f"ck/__{rank}_0.distcp")
            blob.stage_block("a" * 32, payload(200000, step))
            blob.commit_block_list([BlobBlock("a" * 32)])
        temporary, final = c.get_blob_client("ck/.metadata.tmp"), c.get_blob_client("ck/.metadata")
        temporary.stage_block("b" * 32, payload(3000, step))
        temporary.commit_block_list([BlobBlock("b" * 32)], metadata={"is_directory": "false"})
        if final.exists():
            final.delete_blob()
        assert temporary.exists()
        final.start_copy_from_url(temporary.url)
        temporary.delete_blob()
        assert final.download_blob().readall() == payload(3000, step) and not temporary.exists()
        assert final.get_blob_properties().metadata == {"is_directory": "false"}
    wait_until(box.drained, what="write-back")
    far = cloud_service.get_container_client(container)
    assert sorted(b.name for b in far.list_blobs()) == ["ck/.metadata", "ck/__0_0.distcp", "ck/__1_0.distcp"]
    assert far.download_blob("ck/.metadata").readall() == payload(3000, 2)
