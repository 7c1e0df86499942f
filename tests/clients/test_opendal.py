"""OpenDAL (npm, its Rust core), by opendal_flow.js."""
import os
import subprocess

from support import clients
from support.box import ACCOUNT, KEY, NODE

SECOND = "secondaccount"
FLOWS = ["write_and_read", "ranges", "blocks", "lists", "what_is_absent", "copy", "remove_all"]


def run(endpoint, account, container, *more):
    where = clients.folder("npm", "OpenDAL") + "/node_modules/opendal"
    script = os.path.join(os.path.dirname(__file__), "opendal_flow.js")
    done = subprocess.run([NODE, script, endpoint, account, KEY, container, *more], capture_output=True, text=True,
                          env={**os.environ, "OPENDAL": where}, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split("\n")[:-1]


def test_opendal__all_flows(box, container):
    assert run(box.endpoint, ACCOUNT, container) == ["ok " + f for f in FLOWS]


def test_opendal__appends_to_a_local_account(box, second):
    assert run(box.endpoint.replace(ACCOUNT, SECOND), SECOND, second[1], "append") == ["ok append"]
