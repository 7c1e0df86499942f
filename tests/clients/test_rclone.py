"""Debian's rclone: copy up, check, copy down, delete."""
import os
import subprocess

from support import tree
from support.box import ACCOUNT, KEY


def rclone(box, *args):
    env = {**os.environ, "RCLONE_CONFIG": "/dev/null", "RCLONE_CONFIG_H_TYPE": "azureblob",
           "RCLONE_CONFIG_H_ACCOUNT": ACCOUNT, "RCLONE_CONFIG_H_KEY": KEY, "RCLONE_CONFIG_H_ENDPOINT": box.endpoint,
           "RCLONE_CONFIG_H_USE_EMULATOR": "true"}
    done = subprocess.run(["rclone", *args, "--retries", "1", "--low-level-retries", "2"], capture_output=True, text=True,
                          env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_rclone__a_tree_survives_the_round_trip(box, container, tmp_path):
    root = str(tmp_path / "up")
    for i in range(60):
        tree.fill(f"{root}/d{i % 5}/f {i}", 1000 * i, i)
    tree.fill(f"{root}/big", 11 << 20, "big")
    rclone(box, "copy", root, f"h:{container}/x")
    rclone(box, "check", root, f"h:{container}/x")
    rclone(box, "copy", f"h:{container}/x", str(tmp_path / "down"))
    assert tree.digests(str(tmp_path / "down")) == tree.digests(root)
    rclone(box, "delete", f"h:{container}/x/d1")
    assert "d1/" not in rclone(box, "lsf", "-R", f"h:{container}/x")
