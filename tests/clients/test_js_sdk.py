"""@azure/storage-blob (npm), by js_flow.js."""
import os
import subprocess

from support.box import ACCOUNT, KEY, NODE, NPM

FLOWS = ["upload_and_properties", "staged_stream", "ranges", "lists", "conditions", "batch", "structured_bodies", "account_info"]


def test_js__all_flows(box, container):
    script = os.path.join(os.path.dirname(__file__), "js_flow.js")
    done = subprocess.run([NODE, script, box.endpoint, ACCOUNT, KEY, container], capture_output=True, text=True,
                          env={**os.environ, "NPM": NPM}, timeout=300)
    assert done.stdout.split("\n")[:-1] == ["ok " + f for f in FLOWS], done.stdout + done.stderr
    assert done.returncode == 0
