"""Clients that scripts/install_clients --test puts into build/clients, where their registries and tools are there."""
import importlib.metadata
import json
import os
import subprocess
import sys

import pytest

from .box import AZCOPY, NPM, ROOT

FOLDER = os.path.join(ROOT, "build/clients")


def is_own_python():
    """Is this the Python of build/clients?"""
    return os.path.realpath(sys.prefix) == os.path.realpath(os.path.join(FOLDER, "python"))


def absent(name):
    """Why the client is not there, None when it is."""
    if os.path.exists(os.path.join(FOLDER, name, ".installed")):
        return None
    try:
        with open(os.path.join(FOLDER, name + ".log"), errors="replace") as f:
            return (f.read().strip().splitlines() or ["no reason given"])[-1]
    except OSError:
        return "scripts/install_clients --test has not run"


def folder(name, client):
    """The client's folder; skips the test that asks for it, by the client's name, where it is not there."""
    why = absent(name)
    if why:
        pytest.skip(f"{client}: {why}", allow_module_level=True)
    return os.path.join(FOLDER, name)


def npm_version(package):
    with open(os.path.join(package, "package.json")) as f:
        return json.load(f)["version"]


def package_version(name):
    """Of a package of build/clients/python; under another Python its tests only look as if they used it."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def sdk_version():
    import azure.storage.blob
    return "azure-storage-blob " + azure.storage.blob.__version__


def said(*argv):
    """The last word of the first line that it prints."""
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split("\n")[0].split()[-1]


# By the name that the tests' names begin with: test_<client>__...
VERSIONS = {
    "adlfs": lambda: package_version("adlfs"),
    "azcopy": lambda: said(AZCOPY, "--version"),
    "azure_cli": lambda: said("az", "version", "--query", "\"azure-cli\"", "-o", "tsv"),
    "azstoragetorch": lambda: package_version("azstoragetorch"),
    "go": lambda: "azblob " + said(os.path.join(FOLDER, "go/flows")),
    "java": lambda: "azure-storage-blob " + next(
        f[len("azure-storage-blob-"):-len(".jar")] for f in os.listdir(FOLDER + "/java/lib") if f.startswith("azure-storage-blob-")),
    "js": lambda: "@azure/storage-blob " + npm_version(NPM + "/@azure/storage-blob"),
    "obstore": lambda: package_version("obstore") + " (object_store)",
    "opendal": lambda: npm_version(FOLDER + "/npm/node_modules/opendal"),
    "python": sdk_version,
    "python_sdk": sdk_version,
    "rclone": lambda: said("rclone", "version"),
}
