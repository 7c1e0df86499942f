"""azcopy, unmodified: copy up and down, sync, list, remove, with the names and sizes people have."""
import os
import subprocess

import pytest

from support import tree
from support.box import AZCOPY, wait_until

SMALL_FILES = 2000 if os.environ.get("HEARTH_LONG") else 400
LARGE_BYTES = (300 if os.environ.get("HEARTH_LONG") else 60) << 20


def azcopy(*args, folder, fails=False, **env):
    done = subprocess.run([AZCOPY, *args], capture_output=True, text=True, timeout=600,
                          env={**os.environ, "AZCOPY_LOG_LOCATION": folder, "AZCOPY_JOB_PLAN_LOCATION": folder,
                               "AZCOPY_DISABLE_HIERARCHICAL_SCAN": "", **env})
    assert fails or done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    root = str(tmp_path_factory.mktemp("tree") / "checkpoint")
    for i in range(SMALL_FILES):
        tree.fill(f"{root}/step-{i % 7}/shard-{i:05d}.bin", 20480, i)
    tree.fill(f"{root}/large.bin", LARGE_BYTES, "large")
    tree.fill(f"{root}/empty", 0, 0)
    tree.fill(f"{root}/one", 1, 1)
    for n, name in enumerate(["with space", "per%cent", "per%25cent", "pl+us", "ha#sh", "ünï/cödé-\u65e5\u672c",
                              "amp&ersand=x", "semi;colon", "q'uote"]):
        tree.fill(f"{root}/names/{name}", 1000 + n, name)
    return root


def test_azcopy__a_tree_goes_up_to_the_cloud_and_down_byte_for_byte(box, container, sas, checkpoint, tmp_path,
                                                                    cloud_service):
    url = f"{box.endpoint}/{container}?{sas}"
    azcopy("copy", checkpoint + "/*", url, "--recursive", "--put-md5", "--from-to=LocalBlob", folder=str(tmp_path / "a"))
    azcopy("copy", url.replace("?", "/*?"), str(tmp_path / "down"), "--recursive", "--from-to=BlobLocal",
           "--check-md5=FailIfDifferent", folder=str(tmp_path / "b"))
    want = tree.digests(checkpoint)
    assert tree.digests(str(tmp_path / "down")) == want
    wait_until(box.drained, what="write-back")
    there = {b.name: b for b in cloud_service.get_container_client(container).list_blobs()}
    assert set(there) == set(want)
    for name, digest in want.items():
        assert bytes(there[name].content_settings.content_md5).hex() == digest, name


def test_azcopy__sync_sends_only_what_changed(box, container, sas, tmp_path):
    root, url = str(tmp_path / "t"), f"{box.endpoint}/{container}?{sas}"
    for i in range(20):
        tree.fill(f"{root}/f{i}", 5000, i)
        os.utime(f"{root}/f{i}", (1500000000, 1500000000))  # Last-Modified has whole seconds: not in the same one
    azcopy("sync", root, url, "--from-to=LocalBlob", folder=str(tmp_path / "a"))
    tree.fill(f"{root}/f3", 6000, "new")
    os.utime(f"{root}/f3", (4102444800, 4102444800))
    out = azcopy("sync", root, url, "--from-to=LocalBlob", folder=str(tmp_path / "b"))
    assert "Number of Copy Transfers Completed: 1" in out or "Number of Copy Transfers for Files: 1" in out, out


def test_azcopy__list_names_everything_and_remove_leaves_nothing(box, container, sas, tmp_path, service):
    root, url = str(tmp_path / "t"), f"{box.endpoint}/{container}?{sas}"
    for i in range(30):
        tree.fill(f"{root}/d{i % 3}/f{i}", 3000, i)
    azcopy("copy", root + "/*", url, "--recursive", "--from-to=LocalBlob", folder=str(tmp_path / "a"))
    out = azcopy("list", url, "--location", "Blob", folder=str(tmp_path / "b"))
    assert all(f"d{i % 3}/f{i};" in out for i in range(30)), out
    azcopy("remove", url, "--recursive", "--from-to=BlobTrash", folder=str(tmp_path / "c"))
    assert list(service.get_container_client(container).list_blobs()) == []


def test_azcopy__a_wrong_signature_is_refused(box, container, sas, tmp_path):
    out = azcopy("list", f"{box.endpoint}/{container}?{sas[:-4]}AAAA", "--location", "Blob", fails=True,
                 folder=str(tmp_path / "a"))
    assert "403" in out or "AuthenticationFailed" in out, out
