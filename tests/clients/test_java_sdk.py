"""Azure's SDK for Java, by the program of tests/clients/java."""
import subprocess

from support import clients
from support.box import ACCOUNT, KEY, wait_until

FLOWS = ["uploads", "streams", "files", "lists", "conditions", "copies"]


def test_java__all_flows(box, container, tmp_path, service, cloud_service):
    where = clients.folder("java", "Java SDK")
    done = subprocess.run(["java", "-XX:TieredStopAtLevel=1", "-cp", f"{where}/classes:{where}/lib/*", "Flows", box.endpoint, ACCOUNT,
                           KEY, container, str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert done.stdout.split("\n")[:-1] == ["ok " + f for f in FLOWS], done.stdout + done.stderr
    assert done.returncode == 0
    wait_until(box.drained, what="write-back")
    here, there = ({b.name: b.size for b in s.get_container_client(container).list_blobs()} for s in (service, cloud_service))
    assert here == there and "java/copy" in there and "java/source" not in there
