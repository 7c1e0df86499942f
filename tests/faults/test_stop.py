"""SIGTERM in the middle of uploads, with no time to drain: what was begun on the devices and on workers ends before
the loops it belongs to, and the box is closed in order."""
import threading

import pytest

from support.azure import Client
from support.box import ACCOUNT, KEY, Box, wait_until


def upload_loop(box, name, body, stop):
    try:
        client = Client(box.endpoint, ACCOUNT, KEY)
        while not stop.is_set():
            client.request("PUT", f"/ctr/{name}", {"x-ms-blob-type": "BlockBlob"}, body)
    except Exception:       # the box has gone: what this is about
        pass


@pytest.mark.parametrize("io", ["io_uring", "blocking"])
def test_stop__cuts_uploads_off_and_closes_in_order(tmp_path, io):
    box = Box(tmp_path / "box", size="2GiB", memory="512MiB", top=f"io = {io}\ndrain_timeout = 0s").start()
    assert Client(box.endpoint, ACCOUNT, KEY).request("PUT", "/ctr?restype=container", {}, b"").status == 201
    body = bytes(32 << 20)
    for _ in range(3):
        stop, written = threading.Event(), box.metric("device_written_bytes_total")
        writers = [threading.Thread(target=upload_loop, args=(box, f"blob{i}", body, stop)) for i in range(4)]
        for w in writers:
            w.start()
        wait_until(lambda: box.metric("device_written_bytes_total") > written + len(body), what="uploads")
        assert box.stop() == 0, box.text()
        stop.set()
        for w in writers:
            w.join()
        assert box.check() == []
        box.start()
    assert box.stop() == 0
