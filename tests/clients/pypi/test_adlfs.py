"""adlfs, as pandas, dask and checkpoint writers use it: open in each mode, move, remove, list; and what PyTorch's
distributed checkpoint does to it (FsspecWriter and FsspecReader: their very calls, without torch)."""
import io
import os
import random
import threading

import pytest
from azure.core.exceptions import HttpResponseError

from support import clients
from support.box import ACCOUNT, KEY, wait_until

clients.folder("python", "adlfs")
import adlfs  # noqa: E402

SECOND = "secondaccount"  # local: appends are served


def payload(n, seed=1):
    return random.Random(seed).randbytes(n)


def file_system(endpoint, account=ACCOUNT, **options):
    return adlfs.AzureBlobFileSystem(
        connection_string=f"DefaultEndpointsProtocol=http;AccountName={account};AccountKey={KEY};BlobEndpoint={endpoint};",
        skip_instance_cache=True, **options)


@pytest.fixture
def fs(box):
    return file_system(box.endpoint)


def write(fs, path, data, mode="wb", **options):
    with fs.open(path, mode, **options) as f:
        f.write(data)


@pytest.mark.parametrize("size", [0, 1, 70000, (50 << 20) + 7])
def test_adlfs__wb_then_rb(fs, container, size):
    write(fs, f"{container}/a/f ü", payload(size))
    assert fs.size(f"{container}/a/f ü") == size
    with fs.open(f"{container}/a/f ü", "rb") as f:
        assert f.read() == payload(size)


def test_adlfs__many_blocks_at_once(box, container, service):
    fs = file_system(box.endpoint, max_concurrency=8)
    write(fs, f"{container}/blocks", payload(9 << 20), block_size=1 << 20)
    assert fs.cat(f"{container}/blocks") == payload(9 << 20)
    committed, waiting = service.get_blob_client(container, "blocks").get_block_list("all")
    assert len(committed) > 1 and waiting == []


def test_adlfs__xb_only_where_nothing_is(fs, container):
    write(fs, f"{container}/x", b"first", "xb")
    with pytest.raises(FileExistsError):
        write(fs, f"{container}/x", b"second", "xb")
    assert fs.cat(f"{container}/x") == b"first"


def test_adlfs__ab_appends(box, second):
    fs, path = file_system(box.endpoint.replace(ACCOUNT, SECOND), SECOND), second[1] + "/log"
    write(fs, path, b"one ", "ab")
    write(fs, path, payload(5 << 20), "ab")
    write(fs, path, b" three", "ab")
    assert fs.cat(path) == b"one " + payload(5 << 20) + b" three"
    write(fs, path + ".block", b"block")
    with pytest.raises(HttpResponseError, match="InvalidBlobType"):
        write(fs, path + ".block", b"two", "ab")
    assert fs.cat(path + ".block") == b"block"


def test_adlfs__ab_is_refused_where_it_would_go_to_a_cloud(fs, container):
    with pytest.raises(HttpResponseError, match="UnsupportedHeader"):
        write(fs, f"{container}/new", b"two", "ab")
    assert not fs.exists(f"{container}/new")


def test_adlfs__reads_anywhere(fs, container):
    data = payload(12 << 20, 3)
    write(fs, f"{container}/seek", data)
    with fs.open(f"{container}/seek", "rb", block_size=1 << 20) as f:
        for at, n in [(5 << 20, 100), (0, 65537), (len(data) - 10, 100), (1, 3 << 20)]:
            f.seek(at)
            assert f.read(n) == data[at:at + n]
    assert fs.cat_ranges([f"{container}/seek"] * 3, [0, 1000, 9 << 20], [10, 70000, len(data)]) == [
        data[:10], data[1000:70000], data[9 << 20:]]


def test_adlfs__lists_moves_and_removes(fs, container):
    c = container
    for name in ("d/a", "d/b", "d/e/f", "dd/g"):
        write(fs, f"{c}/{name}", name.encode())
    assert sorted(fs.ls(f"{c}/d", detail=False)) == [f"{c}/d/a", f"{c}/d/b", f"{c}/d/e"]
    assert sorted(fs.find(c)) == [f"{c}/d/a", f"{c}/d/b", f"{c}/d/e/f", f"{c}/dd/g"]
    assert [fs.exists(f"{c}/{n}") for n in ("d/a", "d", "d/e", "d/absent", "absent")] == [True, True, True, False, False]
    assert fs.isdir(f"{c}/d") and fs.isfile(f"{c}/d/a") and not fs.isfile(f"{c}/d")
    fs.mv(f"{c}/d/a", f"{c}/m/a")
    assert fs.cat(f"{c}/m/a") == b"d/a" and not fs.exists(f"{c}/d/a")
    fs.copy(f"{c}/d", f"{c}/n", recursive=True)  # mv of a folder fails in adlfs, also on the service: d itself is no blob
    fs.rm(f"{c}/d", recursive=True)
    assert sorted(fs.find(f"{c}/n")) == [f"{c}/n/b", f"{c}/n/e/f"] and fs.cat(f"{c}/n/e/f") == b"d/e/f"
    fs.rm(f"{c}/n", recursive=True)
    assert not fs.exists(f"{c}/n") and fs.find(c) == [f"{c}/dd/g", f"{c}/m/a"]
    with pytest.raises(FileNotFoundError):
        fs.cat(f"{c}/n/b")


def test_adlfs__a_folder_goes_up_and_down(fs, container, tmp_path):
    for n in range(30):
        os.makedirs(tmp_path / f"up/d{n % 3}", exist_ok=True)
        (tmp_path / f"up/d{n % 3}/f{n}").write_bytes(payload(n * 1000, n))
    fs.put(str(tmp_path / "up") + "/", f"{container}/t", recursive=True)
    fs.get(f"{container}/t/", str(tmp_path / "down"), recursive=True)
    for n in range(30):
        assert (tmp_path / f"down/d{n % 3}/f{n}").read_bytes() == payload(n * 1000, n)


class Checkpoint:
    """FsspecWriter's and FsspecReader's calls of torch.distributed.checkpoint, in their order."""

    def __init__(self, fs, path):
        self.fs, self.path = fs, path

    def write(self, ranks, step):
        self.fs.makedirs(self.path, exist_ok=True)
        threads = [threading.Thread(target=self.write_rank, args=(rank, step)) for rank in range(ranks)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        with self.fs.open(self.path + "/.metadata.tmp", "wb") as f:
            f.write(payload(20000, f"meta {step}"))
        if self.fs.exists(self.path + "/.metadata"):
            self.fs.rm(self.path + "/.metadata")
        self.fs.rename(self.path + "/.metadata.tmp", self.path + "/.metadata")

    def write_rank(self, rank, step):
        """Tensors one after the other into one stream, whose position each begins by asking."""
        with self.fs.open(f"{self.path}/__{rank}_0.distcp", "wb") as f:
            for n in range(4):
                assert f.tell() == n * 300000
                f.write(payload(300000, f"{rank} {step} {n}"))

    def read(self, ranks, step):
        with self.fs.open(self.path + "/.metadata", "rb") as f:
            assert f.read() == payload(20000, f"meta {step}")
        for rank in range(ranks):
            with self.fs.open(f"{self.path}/__{rank}_0.distcp", "rb") as f:
                for n in (2, 0, 3, 1):
                    f.seek(n * 300000)
                    assert f.read(300000) == payload(300000, f"{rank} {step} {n}")


def test_adlfs__a_distributed_checkpoint_is_written_over_the_last_and_read(fs, box, container, cloud):
    for step in range(2):
        Checkpoint(fs, f"{container}/ck").write(3, step)
        Checkpoint(file_system(box.endpoint), f"{container}/ck").read(3, step)
    wait_until(box.drained, what="write-back")
    far = file_system(cloud.endpoint)
    assert far.ls(f"{container}/ck", detail=False) == [f"{container}/ck/.metadata"] + [f"{container}/ck/__{r}_0.distcp"
                                                                                       for r in range(3)]
    Checkpoint(far, f"{container}/ck").read(3, 1)


def test_adlfs__a_stream_that_breaks_leaves_no_file(fs, container):
    """FsspecWriter removes what it had begun; adlfs has put nothing there until the stream is closed."""
    write(fs, f"{container}/ck/__0_0.distcp", b"old")
    with pytest.raises(io.UnsupportedOperation):
        with fs.open(f"{container}/ck/__0_0.distcp", "wb") as f:
            f.write(payload(1000))
            assert fs.cat(f"{container}/ck/__0_0.distcp") == b"old"
            fs.rm(f"{container}/ck/__0_0.distcp")
            raise io.UnsupportedOperation
