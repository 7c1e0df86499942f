"""Azure's SDK for Go (azblob), by the program of tests/clients/go."""
import subprocess

from support import clients
from support.box import ACCOUNT, KEY, wait_until

FLOWS = ["buffers", "streams", "ranges", "lists", "conditions", "copies", "signatures"]


def test_go__all_flows(box, container, service, cloud_service):
    program = clients.folder("go", "Go SDK") + "/flows"
    done = subprocess.run([program, box.endpoint, ACCOUNT, KEY, container], capture_output=True, text=True, timeout=300)
    assert done.stdout.split("\n")[:-1] == ["ok " + f for f in FLOWS], done.stdout + done.stderr
    assert done.returncode == 0
    wait_until(box.drained, what="write-back")
    here, there = ({b.name: bytes(b.content_settings.content_md5 or b"") for b in s.get_container_client(container).list_blobs()}
                   for s in (service, cloud_service))
    assert here == there and "go/copy" in there and "go/source" not in there
