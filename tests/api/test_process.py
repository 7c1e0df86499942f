"""The process itself: its command line, what it says of a configuration, exit codes, and how it stops."""
import os
import resource
import signal
import subprocess

import pytest

from support.azure import Client
from support.box import ACCOUNT, HEARTH, KEY, ROOT, Box, connects, wait_until


def hearth(*args, **options):
    return subprocess.run([HEARTH, *args], capture_output=True, text=True, timeout=60, **options)


def conf_of(tmp_path, text):
    path = tmp_path / "appliance.conf"
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


GOOD = f"""data = "%(dir)s/index"
device "d" {{ path = "%(dir)s/slab0" size = 256MiB }}
account "{ACCOUNT}" {{
    key = "{KEY}" # and a comment
    contract "*" {{ write = local }}
}}
"""


# ---- the command line ----

def test_process__help_version_and_example():
    assert "usage: hearth -c appliance.conf" in hearth("--help").stdout
    assert hearth("--help").returncode == 0
    with open(os.path.join(ROOT, "VERSION")) as f:
        assert hearth("--version").stdout == f"hearth {f.read().strip()}\n"
    with open(os.path.join(ROOT, "appliance.conf.example")) as f:
        assert hearth("--example").stdout == f.read()


def test_process__the_example_is_valid_but_for_its_secret_files(tmp_path):
    text = hearth("--example").stdout
    path = conf_of(tmp_path, text)
    done = hearth("--check", "-c", path)
    assert done.returncode == 2
    assert [line.split(": ", 1)[1] for line in done.stderr.splitlines()] == [
        f"{key}: cannot read /etc/hearth/contoso.{name}: No such file or directory"
        for key, name in (("key", "key"), ("sas", "sas"))]
    for name, secret in (("key", KEY), ("sas", "sv=1&sig=2")):
        (tmp_path / name).write_text(secret)
        (tmp_path / name).chmod(0o600)
        text = text.replace(f"/etc/hearth/contoso.{name}", str(tmp_path / name))
    done = hearth("--check", "-c", conf_of(tmp_path, text))
    assert (done.returncode, done.stdout) == (0, "the configuration is valid\n"), done.stderr


@pytest.mark.parametrize("args, says", [
    ([], "which configuration? -c appliance.conf"),
    (["-c", "x", "colour"], "unknown command"),
    (["--colour"], "unrecognized option"),
    (["-c", "/nonexistent/appliance.conf"], "/nonexistent/appliance.conf: No such file or directory"),
])
def test_process__wrong_usage_exits_2(args, says):
    done = hearth(*args)
    assert done.returncode == 2 and says in done.stderr, done.stderr


def test_process__overrides(tmp_path):
    path = conf_of(tmp_path, GOOD % {"dir": tmp_path})
    assert hearth("--check", "-c", path, "-o", "listen=127.0.0.1:1", "-o", "memory=1GiB").returncode == 0
    done = hearth("--check", "-c", path, "-o", "loops=999", "-o", "colour=red")
    assert done.returncode == 2
    assert done.stderr == ("-o loops=999: loops = 999: must be from 0 to 256\n"
                           "-o colour=red: must be KEY=VALUE with a top-level key of appliance.conf\n")


def test_process__what_is_not_served_yet_is_a_start_error_that_names_it(tmp_path):
    """The grammar of the design parses whole; each value that is not served is told, with its line."""
    path = conf_of(tmp_path, f"""data = "{tmp_path}/index" # index
memory = 4GB
device "slab0" {{ path = "{tmp_path}/slab0" size = 64GB }}
account "contoso" {{
  key = "{KEY}"
  aliases = {{ "contoso.blob.core.windows.net" }}   # a comment
  upstream {{ endpoint = "https://contoso.blob.core.windows.net" auth = sas sas = "sv=1&sig=2" }}
  contract "ckpt/*"  {{ write = back  copies = 1  fresh = exclusive  class = checkpoint  markers = {{ "latest", "*.metadata" }} }}
  contract "kv-*"    {{ write = local  class = kv  evict = yes  crash = discard  ttl = 1h }}
  contract "data-*"  {{ write = deny  fresh = immutable  offline = serve  class = dataset }}
  contract "*"       {{ write = through  fresh = "bounded 60s"  offline = serve }}
}}
""")
    for args in (["--check"], []):
        done = hearth(*args, "-c", path)
        assert done.returncode == 2
        assert done.stderr.splitlines() == [f"{path}:{line}: {what} is not served yet by this version" for line, what in (
            (8, "fresh = exclusive"), (8, "class = checkpoint"), (9, "class = kv"), (9, "evict = yes"),
            (9, "crash = discard"), (9, "ttl = 1h"), (10, "class = dataset"), (11, "write = through"))]
    assert not os.path.exists(f"{tmp_path}/slab0")


def test_process__write_must_be_given(tmp_path):
    done = hearth("--check", "-c", conf_of(tmp_path, (GOOD % {"dir": tmp_path}).replace("write = local", "")))
    assert done.returncode == 2 and "contract * has no write" in done.stderr


def test_process__a_start_that_fails_exits_1(tmp_path):
    path = conf_of(tmp_path, GOOD % {"dir": "/proc/nowhere"})
    done = hearth("-c", path, "-o", "memory=256MiB")
    assert done.returncode == 1 and "cannot start" in done.stderr and "/proc/nowhere" in done.stderr
    done = hearth("format", "-c", path)
    assert done.returncode == 2 and "format needs --discard" in done.stderr


def test_process__few_open_files_are_fewer_connections(tmp_path):
    box = Box(tmp_path / "box")

    def limited(files):
        return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    done = hearth("-c", box.path("appliance.conf"), preexec_fn=limited(500))
    assert done.returncode == 1 and "below 512: raise it (ulimit -n 65536)" in done.stderr
    for files, connections in ((3000, 1976), (1030, 515), (512, 256)):
        at = len(box.text()) if os.path.exists(box.log) else 0
        box.spawn([HEARTH, "-c", box.path("appliance.conf")], preexec_fn=limited(files))
        wait_until(lambda: " serving " in box.text()[at:] or not box.alive(), what="Hearth")
        assert f"connections={connections} connections_max=10000" in box.text()[at:]
        assert box.stop() == 0


def test_process__the_access_log_has_what_was_refused_too(tmp_path):
    box = Box(tmp_path / "box", top="access_log = yes").start()
    client = Client(box.endpoint, ACCOUNT, KEY)
    assert client.raw(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").status == 400
    assert client.request("PUT", "/ctr?restype=container&sig=secret").status == 201
    assert box.stop() == 0
    lines = [line for line in box.text().splitlines() if " request " in line and "/readyz" not in line]
    assert len(lines) == 2 and " status=400 " in lines[0] and " status=201 " in lines[1], lines
    assert f"path=/{ACCOUNT}/ctr" in lines[1] and "secret" not in box.text()


# ---- stopping ----

@pytest.fixture
def box(tmp_path):
    box = Box(tmp_path / "box").start()
    yield box
    box.kill()


class SlowPut:
    """A Put Blob whose body is sent half by half."""

    def __init__(self, box, half=100_000):
        self.client = Client(box.endpoint, ACCOUNT, KEY)
        assert self.client.request("PUT", "/ctr?restype=container").status == 201
        self.body, self.half = os.urandom(2 * half), half
        self.connection = self.client.connect()
        self.connection.send(self.client.head_bytes("PUT", "/ctr/slow", {"x-ms-blob-type": "BlockBlob"}, self.body) +
                             self.body[:half])
        wait_until(lambda: box.metric("server_received_bytes_total") > half, what="the first half to arrive")

    def rest(self):
        self.connection.send(self.body[self.half:])
        return self.connection.answer()

    def stored(self, box):
        return self.client.request("GET", "/ctr/slow")


def drain(box):
    box.child.send_signal(signal.SIGTERM)
    wait_until(lambda: "draining" in box.text() and not connects(box.port), what="the drain to begin")


def test_process__sigterm_lets_a_slow_upload_end_and_answers_it(box):
    put = SlowPut(box)
    drain(box)
    answer = put.rest()
    assert answer.status == 201 and answer.headers["connection"] == "close"
    put.connection.close()
    assert box.child.wait(60) == 0
    assert box.text().rstrip().endswith(" stopped")
    assert box.check() == []
    box.start()
    assert put.stored(box).body == put.body


def test_process__a_second_sigterm_ends_at_once(box):
    put = SlowPut(box)
    drain(box)
    box.child.send_signal(signal.SIGTERM)
    assert box.child.wait(60) == -signal.SIGTERM
    assert put.connection.closed()
    box.start()
    assert put.stored(box).code == "BlobNotFound"


def test_process__after_its_grace_the_drain_cuts(tmp_path):
    box = Box(tmp_path / "box", top="drain_timeout = 0s").start()
    put = SlowPut(box)
    assert box.stop() == 0
    assert put.connection.closed()
    assert box.text().rstrip().endswith(" stopped")


def test_process__sigterm_while_it_starts_stops_it_in_order(tmp_path):
    box = Box(tmp_path / "box")
    box.spawn([HEARTH, "-c", box.path("appliance.conf")])
    wait_until(lambda: blocked(box.child.pid) & 1 << signal.SIGTERM - 1, what="its signal mask", step=0)
    box.child.send_signal(signal.SIGTERM)
    assert box.child.wait(60) == 0
    assert box.text().rstrip().endswith(" stopped")


def blocked(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(next(line for line in f if line.startswith("SigBlk:")).split()[1], 16)
