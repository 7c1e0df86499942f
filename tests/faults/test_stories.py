"""The stories of the README as a user lives them: outage, crash, wipe. Real processes, a real client. Crashes by the
hundred are in test_kill.py."""
import random

from azure.storage.blob import BlobBlock, BlobServiceClient

from support.box import ACCOUNT, KEY, Box, wait_until
from support.wan_proxy import WanProxy


def client(endpoint, **options):
    return BlobServiceClient(endpoint, credential={"account_name": ACCOUNT, "account_key": KEY}, retry_total=0, **options)


def data_of(name, n=300000):
    return random.Random(name).randbytes(n)


def test_outage__reads_and_writes_go_on_and_arrive_when_the_cloud_is_back(box, cloud):
    service, far = client(box.endpoint), client(cloud.endpoint)
    c = service.create_container("ckpt")
    for i in range(5):
        c.upload_blob(f"before/{i}", data_of(i))
    wait_until(box.drained, what="write-back")
    cloud.stop()
    for i in range(5):
        assert c.download_blob(f"before/{i}").readall() == data_of(i)
        c.upload_blob(f"during/{i}", data_of(100 + i), metadata={"i": str(i)})
    c.upload_blob("before/0", b"newer", overwrite=True)
    c.delete_blob("before/1")
    assert c.download_blob("before/0").readall() == b"newer"
    cloud.start()
    wait_until(box.drained, seconds=120, what="write-back after the outage")
    there = {b.name: b.size for b in far.get_container_client("ckpt").list_blobs()}
    assert there == {**{f"before/{i}": 300000 for i in (2, 3, 4)}, "before/0": 5,
                     **{f"during/{i}": 300000 for i in range(5)}}
    for i in range(5):
        blob = far.get_blob_client("ckpt", f"during/{i}")
        assert blob.download_blob().readall() == data_of(100 + i)
        assert blob.get_blob_properties().metadata == {"i": str(i)}


def test_crash__every_acknowledged_block_and_blob_is_there_and_the_queue_goes_on(box, cloud):
    service, far = client(box.endpoint), client(cloud.endpoint)
    c = service.create_container("ckpt")
    cloud.stop()
    c.upload_blob("done", data_of("done"))
    blob = service.get_blob_client("ckpt", "half")
    for n in range(4):
        blob.stage_block(f"{n:04d}", data_of(n))
    etag = c.get_blob_client("done").get_blob_properties().etag
    box.kill()
    box.start()
    assert c.download_blob("done").readall() == data_of("done")
    assert c.get_blob_client("done").get_blob_properties().etag == etag
    _, uncommitted = blob.get_block_list("uncommitted")
    assert [(b.id, b.size) for b in uncommitted] == [(f"{n:04d}", 300000) for n in range(4)]
    blob.commit_block_list([BlobBlock(f"{n:04d}") for n in range(4)])
    cloud.start()
    wait_until(box.drained, seconds=120, what="write-back after the crash")
    want = b"".join(data_of(n) for n in range(4))
    assert far.get_blob_client("ckpt", "half").download_blob().readall() == want
    assert far.get_blob_client("ckpt", "done").download_blob().readall() == data_of("done")
    assert box.stop() == 0
    assert box.check() == []


def test_wipe__a_download_fetches_from_the_cloud_once(tmp_path, cloud):
    wan = WanProxy("127.0.0.1", cloud.port).start()
    box = Box(tmp_path / "wiped", cloud=f"http://127.0.0.1:{wan.port}/{ACCOUNT}").start()
    service = client(box.endpoint)
    c = service.create_container("ckpt")
    names = [f"shard-{i}" for i in range(6)]
    for n in names:
        c.upload_blob(n, data_of(n, 1 << 20))
    wait_until(box.drained, what="write-back")
    box.stop()
    box.wipe()
    box.start()

    def read_all():
        assert sorted(b.name for b in c.list_blobs()) == names
        for n in names:
            assert c.download_blob(n).readall() == data_of(n, 1 << 20)

    read_all()
    assert wan.blob_bytes == box.metric("upstream_fill_bytes_total") == len(names) << 20
    read_all()
    assert wan.blob_bytes == len(names) << 20
    assert box.stop() == 0
    wan.stop()
