"""Weights and prompts of others: fetched once over a real connection, checked, and refused in one line."""

import functools
import hashlib
import os
import subprocess
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import ClassVar

import pytest
import torch
from conftest import ROOT

from scenescope import disk, weights
from scenescope.errors import UserError
from scenescope.prompts import read_prompts


class Requests(SimpleHTTPRequestHandler):
    """Serves a folder and counts what is asked for."""

    asked: ClassVar[list[str]] = []

    def do_GET(self):
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A folder, and the address under which a server on this machine publishes it. The cache is empty."""
    folder = tmp_path / "published"
    folder.mkdir()
    monkeypatch.setattr(weights, "CACHE", tmp_path / "cache")
    Requests.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Requests, directory=folder))
    Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def refused(call, *parts: str) -> None:
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert all(part in message for part in parts), message


def test_a_file_is_downloaded_once_and_checked_each_time(published):
    folder, address = published
    (folder / "net.pth").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    file = weights.fetch(f"{address}/net.pth", digest)
    assert file.read_bytes() == b"weights"
    assert weights.fetch(f"{address}/net.pth", digest) == file
    assert Requests.asked == ["/net.pth"]
    file.write_bytes(b"damaged")
    refused(lambda: weights.fetch(f"{address}/net.pth", digest), str(file), digest, "delete it to download it again")


def test_a_wrong_file_is_refused_however_often_it_is_asked_for(published):
    folder, address = published
    (folder / "net.pth").write_bytes(b"something else")
    for _ in range(2):
        refused(lambda: weights.fetch(f"{address}/net.pth", "0" * 64), "SHA-256", f"expected {'0' * 64}")


def test_without_a_published_checksum_the_first_download_is_the_measure(published):
    folder, address = published
    (folder / "net.pth").write_bytes(b"first")
    file = weights.fetch(f"{address}/net.pth")
    assert weights.fetch(f"{address}/net.pth") == file
    file.write_bytes(b"later")
    refused(lambda: weights.fetch(f"{address}/net.pth"), hashlib.sha256(b"first").hexdigest())


def test_a_file_that_is_not_there_and_a_server_that_is_not_there_are_one_line(published):
    _, address = published
    refused(lambda: weights.fetch(f"{address}/none.pth"), "none.pth", "404")
    refused(lambda: weights.fetch("http://127.0.0.1:9/net.pth"), "net.pth", "is there a network?")
    assert not list(weights.CACHE.glob("*.pth"))


def test_the_hub_out_of_reach_is_one_line(tmp_path):
    program = "from scenescope import weights; weights.snapshot('somebody/model', 'a' * 40, ['*.json'])"
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("scenescope.errors.UserError: somebody/model at revision aaaaaaaa: cannot be had"), last
    assert "is there a network?" in last


def test_weights_are_read_without_running_anything(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "good.pth")
    assert torch.equal(weights.read(tmp_path / "good.pth")["a"], torch.ones(2))
    torch.save({"a": print}, tmp_path / "code.pth")
    refused(lambda: weights.read(tmp_path / "code.pth"), "code.pth", "not a file of weights")
    (tmp_path / "text.pth").write_text("hello")
    refused(lambda: weights.read(tmp_path / "text.pth"), "text.pth", "not a file of weights")
    refused(lambda: weights.read(tmp_path / "none.pth"), "none.pth", "no such file")


def test_weights_of_another_network_are_refused(tmp_path):
    network = torch.nn.Linear(2, 2)
    for state in ({"weight": torch.ones(2, 2)}, {"weight": torch.ones(2, 3), "bias": torch.ones(2)}):
        refused(lambda state=state: weights.fill(network, state, tmp_path / "net.pth"), "net.pth", "another network")


def test_too_little_disk_says_how_much_is_needed_and_where(tmp_path):
    disk.check_room(tmp_path / "not" / "there" / "yet", 1000, "a kilobyte")
    folder = tmp_path / "data"
    refused(
        lambda: disk.check_room(folder, 10**18, "the study"), str(folder), "the study needs 1000000000.0 GB", "free"
    )


def published_csv(folder, address, name, text, split, digest=None) -> str:
    data = text.encode()
    (folder / name).write_bytes(data)
    return f"  - {{url: {address}/{name}, sha256: {digest or hashlib.sha256(data).hexdigest()}, split: {split}}}\n"


def test_a_list_of_published_prompts_is_read_as_one_with_its_splits(published, tmp_path):
    folder, address = published
    train = published_csv(folder, address, "train.csv", 'prompts,seeds,prompt_inds\n"Café, ""Blå""",5,1\n', "train")
    test = published_csv(folder, address, "test.csv", "prompts,seeds,prompt_inds\na chair,64140790,5246271\n", "test")
    listed = tmp_path / "listed.yaml"
    listed.write_text(f"files:\n{train}{test}")
    table = read_prompts(listed)
    assert table.to_dict("list") == {
        "prompt_id": ["1", "5246271"],
        "prompt": ['Café, "Blå"', "a chair"],
        "seed": [5, 64140790],
        "split": ["train", "test"],
    }


def test_a_bad_list_of_prompts_is_one_line(published, tmp_path):
    folder, address = published
    text = "prompts,seeds,prompt_inds\na chair,1,7\n"
    one, same = (published_csv(folder, address, f"{name}.csv", text, "train") for name in ("one", "same"))
    changed = published_csv(folder, address, "changed.csv", text, "test", digest="a" * 64)
    listed = tmp_path / "listed.yaml"
    for content, parts in (
        (f"files:\n{one}{same}", ("listed.yaml", "prompt_id '7' is in two of the files")),
        (f"files:\n{changed}", ("changed.csv", "SHA-256")),
        ("files: []\n", ("listed.yaml", "files")),
        (f"files:\n{one.replace('train}', 'training}')}", ("listed.yaml", "files.0.split", "training")),
    ):
        listed.write_text(content)
        refused(lambda: read_prompts(listed), *parts)


def test_the_papers_list_names_617_prompts_at_a_pinned_commit():
    from scenescope.prompts import PromptList
    from scenescope.settings import parse

    train, test = parse(PromptList, ROOT / "prompts" / "paper.yaml").files
    assert (train.split, test.split) == ("train", "test")
    assert train.sha256 == "f7d0d001e82bc3e6798e6da86d5b8712ceeb76c8b0622113bf2d68a754f3841e"
    assert test.sha256 == "6e1833810d8aaaed112112acca18d299f44a6963ca20697e4ae51d0fb3f39c7b"
    assert all("/aa3dbd360b7ea9b04826a4c0579ea98030039d2f/" in file.url for file in (train, test))
