"""obstore: Rust's object_store crate (Polars, delta-rs, DataFusion, Lance stand on it) with its own Python face."""
import random
from datetime import timedelta

import pytest

from support import clients
from support.box import ACCOUNT, KEY, wait_until

clients.folder("python", "object_store (obstore)")
from obstore.exceptions import AlreadyExistsError, PreconditionError  # noqa: E402
from obstore.store import AzureStore  # noqa: E402


def payload(n, seed=1):
    return random.Random(seed).randbytes(n)


def store_of(endpoint, container, **options):
    return AzureStore(container, account_name=ACCOUNT, account_key=KEY, endpoint=endpoint,
                      client_options={"allow_http": True}, retry_config={"max_retries": 0, "retry_timeout": timedelta(minutes=1)},
                      **options)


@pytest.fixture
def store(box, container):
    return store_of(box.endpoint, container)


@pytest.mark.parametrize("size", [0, 1, 70000, 17 << 20])
def test_obstore__put_and_get(store, size, box, cloud, container):
    store.put("d/f ü", payload(size), chunk_size=5 << 20, max_concurrency=4)
    assert store.head("d/f ü")["size"] == size
    assert bytes(store.get("d/f ü").bytes()) == payload(size)
    wait_until(box.drained, what="write-back")
    assert bytes(store_of(cloud.endpoint, container).get("d/f ü").bytes()) == payload(size)


def test_obstore__ranges(store):
    data = payload(300000)
    store.put("r", data)
    for start, n in [(0, 1), (65535, 2), (65536, 65536), (299999, 1)]:
        assert bytes(store.get_range("r", start=start, length=n)) == data[start:start + n]
    got = store.get_ranges("r", starts=[0, 200000, 299000], ends=[10, 200010, 300000])
    assert [bytes(g) for g in got] == [data[:10], data[200000:200010], data[299000:]]


def test_obstore__conditions(store):
    first = store.put("c", b"1", mode="create")
    with pytest.raises(AlreadyExistsError):
        store.put("c", b"2", mode="create")
    store.put("c", b"2", mode={"e_tag": first["e_tag"]})
    with pytest.raises(PreconditionError):
        store.put("c", b"3", mode={"e_tag": first["e_tag"]})
    assert bytes(store.get("c").bytes()) == b"2"
    with pytest.raises(FileNotFoundError):
        store.head("absent")


def test_obstore__lists_copies_and_deletes_in_batches(store):
    names = sorted(f"l/{n % 3}/{n}" for n in range(300))
    for n in names:
        store.put(n, n.encode())
    assert [m["path"] for page in store.list("l") for m in page] == names
    there = store.list_with_delimiter("l")
    assert [str(p) for p in there["common_prefixes"]] == ["l/0", "l/1", "l/2"] and list(there["objects"]) == []
    offset = [m["path"] for page in store.list("l", offset=names[150]) for m in page]
    assert offset == names[151:]
    store.copy("l/0/0", "c/copy")
    store.rename("c/copy", "c/moved")
    assert bytes(store.get("c/moved").bytes()) == b"l/0/0"
    with pytest.raises(AlreadyExistsError):
        store.copy("l/0/3", "c/moved", overwrite=False)
    store.delete(names)  # batches of 256
    assert [m["path"] for page in store.list() for m in page] == ["c/moved"]
