"""An edited appliance.conf over a box that has contents: whose they are, and what becomes of the queue."""
from support.azure import Client
from support.box import ACCOUNT, KEY, wait_until

OTHER = f'account "other" {{ key = "{KEY}" }}\n'


def edit(box, change):
    with open(box.path("appliance.conf")) as f:
        text = f.read()
    with open(box.path("appliance.conf"), "w") as f:
        f.write(change(text))


def refusal(box):
    done = box.command("-o", f"listen=127.0.0.1:{box.port}", "-o", f"admin=127.0.0.1:{box.admin_port}")
    assert done.returncode == 1, done.stderr
    return done.stderr


def put(client, name):
    answer = client.request("PUT", f"/ctr/{name}", {"x-ms-blob-type": "BlockBlob"}, name.encode())
    assert answer.status == 201, answer


def test_accounts__an_account_above_takes_nothing_of_the_one_below(box):
    mine, other = (Client(f"http://127.0.0.1:{box.port}/{name}", name, KEY) for name in (ACCOUNT, "other"))
    assert mine.request("PUT", "/ctr?restype=container").status == 201
    put(mine, "a")
    assert box.stop() == 0
    edit(box, lambda text: text.replace('account "', OTHER + 'account "', 1))
    box.start()
    assert mine.request("GET", "/ctr/a").body == b"a"
    assert other.request("GET", "/ctr/a").code == "ContainerNotFound"
    assert other.request("PUT", "/ctr?restype=container").status == 201
    assert box.stop() == 0
    edit(box, lambda text: text.replace(OTHER, "") + OTHER)
    box.start()
    assert mine.request("GET", "/ctr/a").body == b"a"
    assert other.request("GET", "/ctr/a").code == "BlobNotFound"
    assert box.stop() == 0
    assert box.check() == []


def test_accounts__what_waits_for_a_cloud_is_neither_lost_nor_sent_elsewhere(box, cloud):
    client = Client(box.endpoint, ACCOUNT, KEY)
    assert client.request("PUT", "/ctr?restype=container").status == 201
    wait_until(box.drained, what="the container to be in the cloud")
    cloud.stop()
    for name in ("a", "b"):
        put(client, name)
    assert box.stop() == 0
    whole = open(box.path("appliance.conf")).read()

    edit(box, lambda text: text.replace(f'account "{ACCOUNT}"', 'account "renamed"'))
    assert "2 uploads wait for its cloud: put it back" in refusal(box)
    edit(box, lambda text: whole.replace(cloud.endpoint, "http://127.0.0.1:1/else"))
    assert "its cloud was " + cloud.endpoint in refusal(box)
    edit(box, lambda text: "\n".join(line for line in whole.split("\n") if "upstream {" not in line))
    box.start()  # local for a while
    assert client.request("GET", "/ctr/a").body == b"a"
    assert "2 waiting" in box.admin("/")[1]
    assert box.stop() == 0

    edit(box, lambda text: whole)
    cloud.start()
    box.start()
    wait_until(box.drained, what="write-back")
    there = Client(cloud.endpoint, ACCOUNT, KEY)
    assert [there.request("GET", f"/ctr/{name}").body for name in ("a", "b")] == [b"a", b"b"]
    assert box.stop() == 0
    assert box.check() == []
