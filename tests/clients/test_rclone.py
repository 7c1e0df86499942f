"""Debian's rclone: copy, sync and check both ways and on the server, read and write by pipe, hashes, delete, purge."""
import hashlib
import os
import subprocess

from support import tree
from support.box import ACCOUNT, KEY, wait_until


def rclone(box, *args, fails=False, **options):
    env = {**os.environ, "RCLONE_CONFIG": "/dev/null", "RCLONE_CONFIG_H_TYPE": "azureblob",
           "RCLONE_CONFIG_H_ACCOUNT": ACCOUNT, "RCLONE_CONFIG_H_KEY": KEY, "RCLONE_CONFIG_H_ENDPOINT": box.endpoint,
           "RCLONE_CONFIG_H_USE_EMULATOR": "true"}
    done = subprocess.run(["rclone", *args, "--retries", "1", "--low-level-retries", "2"], capture_output=True, env=env,
                          timeout=300, **{"text": True, **options})
    assert (done.returncode != 0) == fails, done.stderr
    return done.stderr if fails else done.stdout


def fill(root):
    for i in range(60):
        tree.fill(f"{root}/d{i % 5}/f {i}", 1000 * i, i)
    tree.fill(f"{root}/ünï/pl+us %41&", 100, "odd")
    tree.fill(f"{root}/big", 11 << 20, "big")


def test_rclone__a_tree_survives_the_round_trip(box, container, tmp_path):
    root = str(tmp_path / "up")
    fill(root)
    rclone(box, "copy", root, f"h:{container}/x")
    rclone(box, "check", root, f"h:{container}/x")
    rclone(box, "copy", f"h:{container}/x", str(tmp_path / "down"))
    assert tree.digests(str(tmp_path / "down")) == tree.digests(root)
    rclone(box, "delete", f"h:{container}/x/d1")
    assert "d1/" not in rclone(box, "lsf", "-R", f"h:{container}/x")


def test_rclone__sync_makes_equal_both_ways_and_on_the_server(box, container, tmp_path, cloud_service):
    root, down = str(tmp_path / "up"), str(tmp_path / "down")
    fill(root)
    rclone(box, "sync", root, f"h:{container}/x")
    rclone(box, "sync", f"h:{container}/x", f"h:{container}/y")
    tree.fill(f"{root}/d0/f 0", 5000, "changed")
    tree.fill(f"{root}/new", 5000, "new")
    os.remove(f"{root}/d1/f 1")
    report = rclone(box, "check", root, f"h:{container}/x", fails=True)
    assert all(word in report for word in ("3 differences found", "d0/f 0: sizes differ", "d1/f 1", "new: file not in")), report
    rclone(box, "sync", root, f"h:{container}/x")
    rclone(box, "check", "--download", root, f"h:{container}/x")
    tree.fill(f"{down}/extra", 10, 1)
    rclone(box, "sync", f"h:{container}/x", down)
    assert tree.digests(down) == tree.digests(root)
    assert "3 differences found" in rclone(box, "check", root, f"h:{container}/y", fails=True)
    rclone(box, "sync", f"h:{container}/x", f"h:{container}/y")
    rclone(box, "check", root, f"h:{container}/y")
    wait_until(box.drained, what="write-back")
    far = cloud_service.get_container_client(container)
    assert {b.name[2:] for b in far.list_blobs(name_starts_with="y/")} == set(tree.digests(root))
    assert hashlib.md5(far.download_blob("y/big").readall()).hexdigest() == tree.digests(root)["big"]


def test_rclone__pipes_hashes_single_files_and_purge(box, container, tmp_path, service):
    data = os.urandom(9 << 20)
    rclone(box, "rcat", f"h:{container}/p/piped", input=data, text=False)
    assert rclone(box, "cat", f"h:{container}/p/piped", text=False) == data
    assert rclone(box, "cat", "--offset", "5000000", "--count", "70000", f"h:{container}/p/piped", text=False) == data[5000000:5070000]
    tree.fill(str(tmp_path / "one"), 6 << 20, 1)
    digest = tree.digests(str(tmp_path))["one"]
    rclone(box, "copyto", str(tmp_path / "one"), f"h:{container}/p/one")
    rclone(box, "moveto", f"h:{container}/p/one", f"h:{container}/p/two")
    assert rclone(box, "md5sum", f"h:{container}/p/two").split() == [digest, "two"]
    assert sorted(rclone(box, "lsf", f"h:{container}/p").split()) == ["piped", "two"]
    assert "Total objects: 2" in rclone(box, "size", f"h:{container}")
    rclone(box, "deletefile", f"h:{container}/p/two")
    rclone(box, "purge", f"h:{container}")
    assert container not in [c.name for c in service.list_containers()]
