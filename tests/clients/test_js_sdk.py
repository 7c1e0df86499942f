"""@azure/storage-blob (npm), by js_flow.js."""
import os
import subprocess

from support.box import ACCOUNT, KEY, NODE, NPM

FLOWS = ["upload_and_properties", "staged_stream", "ranges", "lists", "conditions", "batch", "structured_bodies", "account_info"]


def run(endpoint, account, container, flows):
    script = os.path.join(os.path.dirname(__file__), "js_flow.js")
    done = subprocess.run([NODE, script, endpoint, account, KEY, container, ",".join(flows)], capture_output=True,
                          text=True, env={**os.environ, "NPM": NPM}, timeout=300)
    assert done.stdout.split("\n")[:-1] == ["ok " + f for f in flows], done.stdout + done.stderr
    assert done.returncode == 0


def test_js__all_flows(box, container):
    run(box.endpoint, ACCOUNT, container, FLOWS)


def test_js__leases_and_snapshots(second):
    service, container = second
    run(service.url.rstrip("/"), service.account_name, container, ["snapshots", "leases"])
