"""azure-cli where somebody has put it on the path; it is too large to be installed for this."""
import shutil
import subprocess

import pytest

from support import tree
from support.box import ACCOUNT, KEY


@pytest.mark.skipif(not shutil.which("az"), reason="azure-cli: no az on the path (some hundred MB, so not installed for this)")
def test_azure_cli__a_folder_goes_up_and_down(box, container, tmp_path):
    def az(*args):
        done = subprocess.run(["az", "storage", "blob", *args, "--connection-string", connection, "--only-show-errors"],
                              capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    connection = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={box.endpoint};"
    (tmp_path / "down").mkdir()
    for n in range(5):
        tree.fill(str(tmp_path / f"up/d{n % 2}/f{n}"), 20000 * n, n)
    az("upload-batch", "-d", container, "-s", str(tmp_path / "up"))
    names = az("list", "-c", container, "--query", "[].name", "-o", "tsv").split()
    assert names == sorted(tree.digests(str(tmp_path / "up")))
    az("download-batch", "-s", container, "-d", str(tmp_path / "down"))
    assert tree.digests(str(tmp_path / "down")) == tree.digests(str(tmp_path / "up"))
    az("delete-batch", "-s", container)
    assert az("list", "-c", container, "-o", "tsv") == ""
