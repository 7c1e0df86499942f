"""The rename story: Copy Blob, then Delete Blob of the old name, of what is clean, partly resident and dirty, with the
WAN cut, kill -9 and eviction pressure. The new name always has all its bytes; the cloud never loses the old name
before it has the new one. Real processes, a real client; what the cloud was asked is read off the proxy."""
import random
import threading

import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobServiceClient

from support.box import ACCOUNT, KEY, Box, wait_until

MIB = 1 << 20


def client(endpoint):
    return BlobServiceClient(endpoint, credential={"account_name": ACCOUNT, "account_key": KEY}, retry_total=0,
                             max_single_put_size=4 * MIB, max_block_size=4 * MIB)


def data_of(name, n):
    return random.Random(name).randbytes(n)


SIZES = {"large": 12 * MIB + 7, "block": 300000, "small": 5000, "empty": 0}


@pytest.fixture(scope="module")
def cloud(module_cloud):
    return module_cloud


def box_of(folder, wan, **options):
    return Box(folder, cloud=f"http://127.0.0.1:{wan.port}/{ACCOUNT}", **options).start()


@pytest.fixture
def box(tmp_path, wan):
    box = box_of(tmp_path / "box", wan)
    yield box
    box.kill()


def rename(c, old, new):
    copied = c.get_blob_client(new).start_copy_from_url(c.get_blob_client(old).url)
    assert copied["copy_status"] == "success"
    c.delete_blob(old)


def assert_new_before_old(wan, names):
    """Every DELETE of an old name follows the request that made its new one visible."""
    made = {}
    with wan.lock:
        requests = list(wan.requests)
    for at, (method, target, status) in enumerate(requests):
        path, _, query = target.partition("?")
        name = path.rpartition("/")[2]
        if method == "PUT" and "comp=block&" not in query + "&" and status == 201:
            made.setdefault(name, at)
        if method == "DELETE" and name in names:
            assert made.get(names[name], at) < at, (name, requests)


@pytest.mark.parametrize("order", ["safe", "latest-wins"])
def test_rename__with_the_wan_cut_and_a_kill(tmp_path, cloud, wan, order):
    box = box_of(tmp_path / "box", wan, contracts=f'contract "*" {{ write = back order = {order} }}')
    c, far = client(box.endpoint).create_container("ck" + order), client(cloud.endpoint)
    names = {}
    try:
        for kind, n in SIZES.items():
            c.upload_blob(f"clean-{kind}", data_of(kind, n))
        wait_until(box.drained, what="write-back")
        wan.reset()
        wan.outage()
        for kind, n in SIZES.items():
            c.upload_blob(f"dirty-{kind}", data_of(kind + "d", n))
            for state in ("clean", "dirty"):
                names[f"{state}-{kind}"] = f"moved-{state}-{kind}"
                rename(c, f"{state}-{kind}", f"moved-{state}-{kind}")
        box.kill()
        box.start()

        def check(container):
            for kind, n in SIZES.items():
                assert container.download_blob(f"moved-clean-{kind}").readall() == data_of(kind, n), kind
                assert container.download_blob(f"moved-dirty-{kind}").readall() == data_of(kind + "d", n), kind
            assert sorted(b.name for b in container.list_blobs()) == sorted(names.values())
        for new in names.values():
            assert c.get_blob_client(new).exists()
        wan.match, wan.lose_answer = "PUT", 3  # answers get lost on the way: proved, never sent blindly
        wan.heal()
        wait_until(box.drained, seconds=120, what="write-back after the outage")
        check(far.get_container_client("ck" + order))
        check(c)
        assert_new_before_old(wan, names)
        assert box.stop() == 0 and box.check() == []
    finally:
        box.kill()


def test_rename__of_what_is_partly_here(tmp_path, cloud, wan):
    far = client(cloud.endpoint).create_container("partly")
    far.upload_blob("old", data_of("p", 20 * MIB))
    box = box_of(tmp_path / "box", wan)
    try:
        c = client(box.endpoint).get_container_client("partly")
        assert c.download_blob("old", offset=5 * MIB, length=100).readall() == data_of("p", 20 * MIB)[5 * MIB:5 * MIB + 100]
        wan.outage()
        with pytest.raises(HttpResponseError) as e:  # its bytes are not to be had: refused, nothing lost
            c.get_blob_client("new").start_copy_from_url(c.get_blob_client("old").url)
        assert e.value.status_code == 503
        wan.heal()
        wan.reset()
        wait_until(lambda: copied(c, "old", "new"), what="the cloud to answer again")
        wan.outage()
        c.delete_blob("old")
        box.kill()
        box.start()
        assert c.download_blob("new").readall() == data_of("p", 20 * MIB)
        assert [b.name for b in far.list_blobs()] == ["old"]
        wan.heal()
        wait_until(box.drained, seconds=120, what="write-back")
        assert [b.name for b in far.list_blobs()] == ["new"]
        assert far.download_blob("new").readall() == data_of("p", 20 * MIB)
        assert_new_before_old(wan, {"old": "new"})
    finally:
        box.kill()


def copied(c, old, new):
    try:
        c.get_blob_client(new).start_copy_from_url(c.get_blob_client(old).url)
        return True
    except HttpResponseError as e:
        assert e.status_code == 503
        return False


def test_rename__under_eviction_pressure(tmp_path, cloud, wan):
    """A box that holds a part of what passes through it, renaming all the while."""
    box = box_of(tmp_path / "box", wan, size="640MiB")
    try:
        c, far = client(box.endpoint).create_container("pressure"), client(cloud.endpoint).get_container_client("pressure")
        stop, errors = threading.Event(), []

        def pass_through():
            i = 0
            while not stop.is_set():
                try:
                    c.upload_blob(f"other/{i % 40}", data_of(i, 8 * MIB), overwrite=True)
                except HttpResponseError as e:
                    if e.status_code != 503:
                        errors.append(e)
                i += 1
        for i in range(12):
            c.upload_blob(f"a{i}", data_of(f"a{i}", 9 * MIB))
        wait_until(box.drained, seconds=120, what="write-back")
        wan.reset()
        thread = threading.Thread(target=pass_through)
        thread.start()
        try:
            for i in range(12):
                wait_until(lambda: copied(c, f"a{i}", f"b{i}"), what="room for a copy")
                c.delete_blob(f"a{i}")
        finally:
            stop.set()
            thread.join()
        assert not errors
        wait_until(box.drained, seconds=180, what="write-back")
        for i in range(12):
            assert c.download_blob(f"b{i}").readall() == data_of(f"a{i}", 9 * MIB)
            assert far.download_blob(f"b{i}").readall() == data_of(f"a{i}", 9 * MIB)
        assert_new_before_old(wan, {f"a{i}": f"b{i}" for i in range(12)})
        assert box.stop() == 0 and box.check() == []
    finally:
        box.kill()
