"""azcopy's other jobs: sync in each direction, resume after a kill, remove in its ways, properties, pipes, and from
account to account again and again."""
import os
import re
import signal
import subprocess

import pytest

from support import tree
from support.box import ACCOUNT, AZCOPY, wait_until
from test_azcopy import azcopy
from test_copies import account_sas

SECOND = "secondaccount"
FUTURE = (4102444800, 4102444800)


@pytest.fixture
def url(box, container, sas):
    def of(path=""):
        return f"{box.endpoint}/{container}{path}?{sas}"
    return of


@pytest.fixture
def second_url(box, second):
    def of(path=""):
        return f"{box.endpoint.replace(ACCOUNT, SECOND)}/{second[1]}{path}?{account_sas(SECOND)}"
    return of


@pytest.fixture
def run(tmp_path):
    def one(*args, **options):
        return azcopy(*args, folder=str(tmp_path / "jobs"), **options)
    return one


def digests_of(container_client):
    import hashlib
    return {b.name: hashlib.md5(container_client.download_blob(b.name).readall()).hexdigest() for b in container_client.list_blobs()}


def test_azcopy__sync_up_down_and_across_accounts(box, run, url, second, second_url, tmp_path, service, container, cloud_service):
    up, down = str(tmp_path / "up"), str(tmp_path / "down")
    for i in range(20):
        tree.fill(f"{up}/d{i % 3}/f {i}", 5000 * i, i)
    tree.fill(f"{up}/large", 18 << 20, "large")
    flags = "--delete-destination=true"
    across = ("sync", url(), second_url(), "--from-to=BlobBlob", flags, "--s2s-preserve-access-tier=false")
    for change in range(2):
        run("sync", up, url(), "--from-to=LocalBlob", flags, "--put-md5")
        os.makedirs(down, exist_ok=True)
        run("sync", url(), down, "--from-to=BlobLocal", flags, "--mirror-mode", "--check-md5=FailIfDifferentOrMissing")
        run(*across, "--mirror-mode")
        assert tree.digests(down) == tree.digests(up)
        assert digests_of(second[0].get_container_client(second[1])) == tree.digests(up)
        tree.fill(f"{up}/d0/f 3", 6000 + change, "newer")
        os.utime(f"{up}/d0/f 3", FUTURE)
        os.remove(f"{up}/d1/f {4 + 3 * change}")
        tree.fill(f"{up}/new {change}", 77, change)
    wait_until(box.drained, what="write-back")
    assert digests_of(cloud_service.get_container_client(container)) == tree.digests(down)


def start(folder, *args):
    """A job that a kill will end; its id."""
    env = {**os.environ, "AZCOPY_LOG_LOCATION": folder, "AZCOPY_JOB_PLAN_LOCATION": folder}
    child = subprocess.Popen([AZCOPY, *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
    for line in child.stdout:
        job = re.search(r"Job ([0-9a-f-]{36}) has started", line)
        if job:
            return child, job[1]
    raise AssertionError(f"azcopy ended with {child.wait()}")


def kill(child):
    assert child.poll() is None, "it was to be slow enough to be killed"
    child.send_signal(signal.SIGKILL)
    child.stdout.close()
    child.wait()


def test_azcopy__an_upload_that_was_killed_is_resumed_where_it_was(run, url, sas, service, container, tmp_path):
    tree.fill(str(tmp_path / "up/f"), 64 << 20, "slow")
    blob = service.get_blob_client(container, "f")
    child, job = start(str(tmp_path / "jobs"), "copy", str(tmp_path / "up/f"), url("/f"), "--from-to=LocalBlob", "--block-size-mb=4",
                       "--put-blob-size-mb=4", "--cap-mbps=40")
    waiting = wait_until(lambda: uncommitted(blob), what="blocks")
    kill(child)
    assert not blob.exists()
    run("jobs", "resume", job, f"--destination-sas={sas}")
    digest = tree.digests(str(tmp_path / "up"))["f"]
    assert digests_of(service.get_container_client(container)) == {"f": digest}
    committed, left = blob.get_block_list("all")
    assert len(committed) == 16 and left == [] and {b.id for b in waiting} <= {b.id for b in committed}


def uncommitted(blob):
    from azure.core.exceptions import ResourceNotFoundError
    try:
        return blob.get_block_list("uncommitted")[1]
    except ResourceNotFoundError:
        return []


def test_azcopy__a_download_that_was_killed_is_resumed(run, url, sas, service, container, tmp_path):
    data, down = os.urandom(64 << 20), tmp_path / "down"
    service.get_blob_client(container, "f").upload_blob(data)
    down.mkdir()
    child, job = start(str(tmp_path / "jobs"), "copy", url("/f"), str(down / "f"), "--from-to=BlobLocal", "--block-size-mb=4",
                       "--cap-mbps=40")
    wait_until(lambda: os.listdir(down), what="the file's beginning")
    kill(child)
    assert not (down / "f").exists() or (down / "f").read_bytes() != data
    run("jobs", "resume", job, f"--source-sas={sas}")
    assert (down / "f").read_bytes() == data


def test_azcopy__remove_one_some_and_a_folder(run, url, service, container, tmp_path, box, cloud_service):
    c = service.get_container_client(container)
    for name in ("one", "d/a.tmp", "d/b", "d/e/c.tmp", "d/e/d", "dd"):
        c.upload_blob(name, b"x")
    run("remove", url("/one"), "--from-to=BlobTrash")
    run("remove", url(), "--recursive", "--include-pattern=*.tmp", "--from-to=BlobTrash")
    assert [b.name for b in c.list_blobs()] == ["d/b", "d/e/d", "dd"]
    run("remove", url("/d"), "--recursive", "--from-to=BlobTrash")
    assert [b.name for b in c.list_blobs()] == ["dd"]
    wait_until(box.drained, what="write-back")
    assert [b.name for b in cloud_service.get_container_client(container).list_blobs()] == ["dd"]


def test_azcopy__set_properties_gives_metadata(run, url, service, container, box, cloud_service):
    c = service.get_container_client(container)
    for name in ("d/a", "d/b", "other"):
        c.upload_blob(name, name.encode(), metadata={"old": "1"})
    run("set-properties", url("/d"), "--recursive", "--metadata=step=7;run=x y", "--from-to=BlobNone")
    wait_until(box.drained, what="write-back")
    for s in (service, cloud_service):
        got = {b.name: b.metadata for b in s.get_container_client(container).list_blobs(include=["metadata"])}
        assert got == {"d/a": {"step": "7", "run": "x y"}, "d/b": {"step": "7", "run": "x y"}, "other": {"old": "1"}}


@pytest.mark.parametrize("size", [0, 1000, 20 << 20])
def test_azcopy__pipes(url, service, container, tmp_path, size):
    data, env = os.urandom(size), {**os.environ, "AZCOPY_LOG_LOCATION": str(tmp_path), "AZCOPY_JOB_PLAN_LOCATION": str(tmp_path)}
    done = subprocess.run([AZCOPY, "copy", url("/p"), "--from-to=PipeBlob", "--block-size-mb=4"], input=data, capture_output=True,
                          env=env, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert service.get_blob_client(container, "p").download_blob().readall() == data
    done = subprocess.run([AZCOPY, "copy", url("/p"), "--from-to=BlobPipe"], capture_output=True, env=env, timeout=300)
    assert done.returncode == 0 and done.stdout == data, done.stderr
