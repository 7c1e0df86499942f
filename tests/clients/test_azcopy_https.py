"""azcopy as it is installed anywhere, over https to the account's real host name: the certificate is of a private CA, the
name is resolved by a hosts file of azcopy's own mount namespace, and nothing of its command line says "Hearth"."""
import os
import random
import subprocess

import pytest

from support import tree
from support.box import ACCOUNT, AZCOPY, Box, wait_until

HOST = f"{ACCOUNT}.blob.core.windows.net"


def openssl(*args, folder):
    subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A CA (ca.crt) and a server certificate it signed for HOST (tls.crt, tls.key)."""
    folder = str(tmp_path_factory.mktemp("ca"))
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=private CA",
            "-keyout", "ca.key", "-out", "ca.crt", folder=folder)
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={HOST}", "-keyout", "tls.key", "-out", "tls.csr",
            folder=folder)
    with open(os.path.join(folder, "san"), "w") as f:
        f.write(f"subjectAltName = DNS:{HOST}\n")
    openssl("x509", "-req", "-in", "tls.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-extfile", "san", "-out", "tls.crt", folder=folder)
    os.chmod(os.path.join(folder, "tls.key"), 0o600)
    return folder


@pytest.fixture(scope="module")
def resolver(tmp_path_factory):
    """An address of loopback that nobody else uses, so that 443 is free there, and the hosts file that names it."""
    address = "127.%d.%d.%d" % tuple(random.SystemRandom().randrange(1, 250) for _ in range(3))
    hosts = str(tmp_path_factory.mktemp("resolver") / "hosts")
    with open(hosts, "w") as f:
        f.write(f"127.0.0.1 localhost\n{address} {HOST}\n")
    probe = subprocess.run(["unshare", "-m", "mount", "--bind", hosts, "/etc/hosts"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip("azcopy over https: no mount namespace of our own here (needs root): " + probe.stderr.strip())
    return address, hosts


@pytest.fixture(scope="module")
def https_box(tmp_path_factory, cloud, certificates, resolver):
    box = Box(tmp_path_factory.mktemp("https-box"), cloud=cloud.endpoint, listen=f"{resolver[0]}:443",
              top=f'tls {{ cert = "{certificates}/tls.crt" key = "{certificates}/tls.key" }}',
              account=f'aliases = {{ "{HOST}" }}').start()
    yield box
    code = box.stop()
    assert code == 0, box.text()[-4000:]


@pytest.fixture
def azcopy(tmp_path, certificates, resolver):
    def run(*args):
        env = {**os.environ, "SSL_CERT_FILE": f"{certificates}/ca.crt", "AZCOPY_LOG_LOCATION": str(tmp_path / "log"),
               "AZCOPY_JOB_PLAN_LOCATION": str(tmp_path / "plan")}
        done = subprocess.run(["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', resolver[1],
                               AZCOPY, *args], capture_output=True, text=True, timeout=600, env=env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
    return run


def test_azcopy__over_https_to_the_accounts_own_name(https_box, azcopy, sas, tmp_path, cloud_service):
    root, down, url = str(tmp_path / "up"), str(tmp_path / "down"), f"https://{HOST}/models?{sas}"
    for i in range(20):
        tree.fill(f"{root}/layer {i % 3}/w{i}", 30000 + i, i)
    tree.fill(f"{root}/big", 40 << 20, "big")
    tree.fill(f"{root}/empty", 0, 0)
    azcopy("make", url)
    azcopy("copy", root + "/*", url, "--recursive", "--put-md5")
    assert "layer 2/w2;" in azcopy("list", url)
    azcopy("copy", url.replace("?", "/*?"), down, "--recursive", "--check-md5=FailIfDifferent")
    want = tree.digests(root)
    assert tree.digests(down) == want
    tree.fill(f"{root}/layer 0/w0", 31000, "newer")
    os.utime(f"{root}/layer 0/w0", (4102444800, 4102444800))
    os.remove(f"{root}/empty")
    azcopy("sync", root, url, "--delete-destination=true")
    azcopy("sync", url, down, "--delete-destination=true", "--mirror-mode")
    assert tree.digests(down) == tree.digests(root)
    wait_until(https_box.drained, what="write-back")
    assert {b.name for b in cloud_service.get_container_client("models").list_blobs()} == set(tree.digests(root))
    azcopy("remove", url, "--recursive")
    assert ";" not in azcopy("list", url)
