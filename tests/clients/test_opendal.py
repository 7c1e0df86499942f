"""OpenDAL (npm, its Rust core), by opendal_flow.js."""
import os
import subprocess

from support import clients
from support.box import ACCOUNT, KEY, NODE

FLOWS = ["write_and_read", "ranges", "blocks", "lists", "what_is_absent", "copy", "remove_all"]


def test_opendal__all_flows(box, container):
    where = clients.folder("npm", "OpenDAL") + "/node_modules/opendal"
    script = os.path.join(os.path.dirname(__file__), "opendal_flow.js")
    done = subprocess.run([NODE, script, box.endpoint, ACCOUNT, KEY, container], capture_output=True, text=True,
                          env={**os.environ, "OPENDAL": where}, timeout=300)
    assert done.stdout.split("\n")[:-1] == ["ok " + f for f in FLOWS], done.stdout + done.stderr
    assert done.returncode == 0
