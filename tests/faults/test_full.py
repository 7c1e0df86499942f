"""More content than the devices hold: clean bytes make room, come back from the cloud byte for byte (blocks from
their place in the blob), and the box is consistent afterwards."""
import hashlib
import random

import pytest
from azure.storage.blob import BlobBlock, BlobServiceClient

from support.box import ACCOUNT, KEY, Box, wait_until

BLOB_BYTES, BLOCK_BYTES, BLOBS = 16 << 20, 5 << 20, 28  # a 640 MiB device has room for about 300 MiB beside its log


@pytest.fixture
def box(tmp_path, cloud):
    box = Box(tmp_path / "box", cloud=cloud.endpoint, size="640MiB").start()
    yield box
    box.kill()


def digest(data):
    return hashlib.sha1(data).digest()


def put_in_blocks(blob, data):
    blocks = []
    for at in range(0, len(data), BLOCK_BYTES):
        blocks.append(BlobBlock(f"{at:08d}"))
        blob.stage_block(blocks[-1].id, data[at:at + BLOCK_BYTES])
    blob.commit_block_list(blocks)


def write_all(container):
    draw, want = random.Random(1), {}
    for i in range(BLOBS):
        data, small = draw.randbytes(BLOB_BYTES), draw.randbytes(5000 + i)
        want[f"large/{i}"], want[f"small/{i}"] = digest(data), digest(small)
        if i % 2:
            put_in_blocks(container.get_blob_client(f"large/{i}"), data)
        else:
            container.upload_blob(f"large/{i}", data)
        container.upload_blob(f"small/{i}", small)
    return want


def wrong(container, want):
    return [name for name in want if digest(container.download_blob(name).readall()) != want[name]]


def test_full__clean_bytes_make_room_and_come_back(box):
    service = BlobServiceClient(box.endpoint, credential={"account_name": ACCOUNT, "account_key": KEY}, retry_total=10)
    container = service.create_container("full")
    want = write_all(container)
    wait_until(box.drained, seconds=240, what="write-back")
    assert not wrong(container, want)
    assert box.metric("evicted_extents_total") > 0 and box.metric("fills_total") > 0
    assert box.metric("content_damaged_total") == 0
    assert box.stop() == 0
    assert box.check() == []
    box.start()
    assert not wrong(container, dict(list(want.items())[::5]))
