"""scripts/quickstart as a newcomer meets it: start, paste what it printed, stop it, start it again over the same
folder; and what it says when it cannot start."""
import fcntl
import os
import re
import signal
import socket
import subprocess
import textwrap

import pytest

from support.box import ACCOUNT, KEY, ROOT, Azurite, Process, connects, free_port, wait_until

SCRIPT = os.path.join(ROOT, "scripts/quickstart")


def heed_interrupts():
    """A test run that a script put into the background ignores SIGINT, and a shell cannot trap what it was born ignoring."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Quickstart(Process):
    def __init__(self, folder, *args):
        os.makedirs(folder, exist_ok=True)
        super().__init__(os.path.join(folder, "quickstart.log"))
        self.dir, self.args = os.path.join(folder, "data"), args
        self.port, self.admin_port, self.said = free_port(), free_port(), ""

    def start(self, **env):
        at = os.path.getsize(self.log) if os.path.exists(self.log) else 0
        self.spawn([SCRIPT, "--port", str(self.port), "--admin-port", str(self.admin_port), "--dir", self.dir,
                    *self.args], env={**os.environ, **env}, start_new_session=True, preexec_fn=heed_interrupts)
        wait_until(lambda: "stop:  Ctrl-C" in self.text()[at:] or not self.alive(), seconds=300, what="quickstart")
        self.said = self.text()[at:]
        assert self.alive(), self.said
        return self

    def printed(self, head):
        """The indented lines below a head such as "curl"."""
        return textwrap.dedent(re.search(rf"^{re.escape(head)}.*:\n((?:  .*\n)+)", self.said, re.M)[1])

    def stop(self, sig=signal.SIGINT):
        os.killpg(self.child.pid, sig)  # as Ctrl-C does: to all that the terminal knows
        code = self.child.wait(60)
        assert not connects(self.port) and not connects(self.admin_port)
        assert self.left() == []
        with open(os.path.join(self.dir, "lock")) as lock:  # whatever was started holds it
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return code

    def left(self):
        """Processes that name the folder."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    if self.dir.encode() in f.read():
                        found.append(int(pid))
            except OSError:
                pass
        return found

    def hearth_log(self):
        with open(os.path.join(self.dir, "hearth.log")) as f:
            return f.read()


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def started(tmp_path):
    """Makes Quickstarts and ends what a failed test leaves."""
    all_of_them = []

    def make(*args, folder="q"):
        all_of_them.append(Quickstart(str(tmp_path / folder), *args))
        return all_of_them[-1]

    yield make
    for q in all_of_them:
        q.end(signal.SIGTERM)


def paste_and_restart(q):
    put, get = q.printed("curl").strip().split("\n")
    run(["bash", "-c", put])
    assert run(["bash", "-c", get]) == "hello"
    run(["/usr/bin/python3", "-c", q.printed("Python") + """
s.get_blob_client("ckpt", "hello2").upload_blob(b"hello again", overwrite=True)
assert s.get_blob_client("ckpt", "hello").download_blob().readall() == b"hello"
"""])
    assert q.stop() == 130
    assert "draining" in q.hearth_log() and q.hearth_log().rstrip().endswith(" stopped"), q.hearth_log()
    q.start()
    get = q.printed("curl").strip().split("\n")[1]
    assert run(["bash", "-c", get]) == "hello"
    assert run(["bash", "-c", get.replace("/hello?", "/hello2?")]) == "hello again"


def test_quickstart__no_upstream(started):
    q = started("--no-upstream").start()
    assert "local only" in q.said
    paste_and_restart(q)
    assert q.stop(signal.SIGTERM) == 143


def test_quickstart__in_front_of_azurite(started):
    q = started().start()
    paste_and_restart(q)
    cloud = re.search(r"written back to: (\S+)", q.said)[1]
    wait_until(lambda: "uploads      0 waiting, 0 in flight" in run(["curl", "-s", f"http://127.0.0.1:{q.admin_port}/"]),
               what="the queue to drain")
    assert run(["/usr/bin/python3", "-c", f"""
from azure.storage.blob import BlobServiceClient
s = BlobServiceClient("{cloud}", credential={{"account_name": "{ACCOUNT}", "account_key": "{KEY}"}})
print(s.get_blob_client("ckpt", "hello2").download_blob().readall().decode())
"""]) == "hello again\n"
    assert q.stop() == 130
    with socket.create_server(("127.0.0.1", int(cloud.split(":")[2].split("/")[0]))):  # its port is another's now
        with socket.socket() as holder:  # and Hearth ends after it has heard of the new one
            holder.bind(("127.0.0.1", q.port))
            done = subprocess.run([SCRIPT, "--port", str(q.port), "--admin-port", str(q.admin_port), "--dir", q.dir],
                                  capture_output=True, text=True, timeout=300)
            assert done.returncode == 1 and "Hearth did not start" in done.stderr, done.stderr
    q.start()
    assert cloud not in q.said
    assert q.stop() == 130
    cloud = re.search(r"written back to: (\S+)", q.said)[1]
    with socket.create_server(("127.0.0.1", int(cloud.split(":")[2].split("/")[0]))):
        q.start()
        assert cloud not in q.said
        assert run(["bash", "-c", q.printed("curl").strip().split("\n")[1]]) == "hello"
        assert q.stop() == 130


def test_quickstart__two_do_not_share_a_folder_or_a_port(started):
    q = started("--no-upstream").start()
    second = [SCRIPT, "--no-upstream", "--port", str(free_port()), "--admin-port", str(free_port())]
    done = subprocess.run([*second, "--dir", q.dir], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and f"a quickstart runs in {q.dir} already" in done.stderr
    second[3] = str(q.port)
    done = subprocess.run([*second, "--dir", q.dir + "2"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and f"port {q.port} is in use" in done.stderr
    q.stop()


@pytest.mark.parametrize("args, says", [
    (["--port"], "--port needs a value"),
    (["--upstream"], "--upstream needs a value"),
    (["--colour"], "unknown option --colour"),
    (["--upstream", "contoso.blob.core.windows.net"], "--upstream wants https://"),
    (["--upstream", "https://contoso.blob.core.windows.net/ckpt?sv=1&sig=2"], "not of a container"),
    (["--upstream", "http://127.0.0.1:10000?sig=2"], "ends in its account"),
    (["--upstream", "https://contoso.blob.core.windows.net?"], "needs a SAS in the URL or AZURE_STORAGE_KEY"),
])
def test_quickstart__says_what_is_wrong(args, says):
    env = {k: v for k, v in os.environ.items() if k != "AZURE_STORAGE_KEY"}
    done = subprocess.run([SCRIPT, *args], capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 1 and says in done.stderr, done.stderr


def test_quickstart__upstream_by_url_and_a_cloud_that_refuses(started, tmp_path):
    azurite = Azurite(str(tmp_path / "azurite")).start()
    try:
        q = started("--upstream", azurite.endpoint, folder="good").start(AZURE_STORAGE_KEY=KEY)
        assert f"serves account {ACCOUNT} " in q.said and "WARNING" not in q.said
        q.stop()
        q = started("--upstream", azurite.endpoint, folder="bad").start(AZURE_STORAGE_KEY="d3Jvbmc=")
        assert "WARNING: container ckpt cannot be made" in q.said
        q.stop()
    finally:
        azurite.stop()
