"""The SDK tests of Debian's azure-storage-blob once more, under the newest that PyPI has."""
from support import clients

clients.folder("python", "the newest azure-storage-blob")
from test_acl import *  # noqa: E402,F401,F403
from test_append import *  # noqa: E402,F401,F403
from test_copies import *  # noqa: E402,F401,F403
from test_lease_clients import *  # noqa: E402,F401,F403
from test_python_sdk import *  # noqa: E402,F401,F403

for name in [n for n in globals() if n.startswith("test_") and not n.startswith("test_python__")]:
    del globals()[name]
