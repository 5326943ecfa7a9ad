"""A full disk, a folder that cannot be written, a shard that is cut or altered: named in a line, mended by a rerun."""

import os
import shutil
import subprocess
from contextlib import contextmanager

import pytest
import yaml
from conftest import stages_run

pytestmark = pytest.mark.slow


@pytest.fixture
def finished(done, tmp_path):
    """A copy of the small study that has been run."""
    return done[0].copied(tmp_path / "copy")


def records(study):
    return yaml.safe_load((study.home / "dvc.lock").read_text())["stages"]


def fails(study, *command):
    """The one line that a command of a stage says when it fails."""
    output = study.run(*command, fails=True)
    assert "Traceback" not in output, output
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    return line


def cut(content):
    return content[: len(content) // 2]


def flipped(content):
    return content[:1000] + bytes([content[1000] ^ 1]) + content[1001:]


@pytest.mark.parametrize("harm", [cut, flipped])
@pytest.mark.parametrize(
    ("file", "stage", "module"),
    [
        ("data/trajectories/c/0/0/0/0/0", "generate", "capture"),
        ("data/map/step_002.npz", "ridge", "onset"),
        ("data/images/t0003.png", "generate", "label depth"),
    ],
)
def test_a_damaged_file_is_named_and_the_next_run_brings_it_back(finished, file, stage, module, harm):
    before, path = records(finished), finished.home / file
    whole, times = path.read_bytes(), path.stat()
    path.write_bytes(harm(whole))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a disk that forgets does, unseen
    line = fails(finished, "python", "-m", *f"stages.{module}".split())
    named = file.split("/c/")[0]
    assert named in line and "run dvc repro again" in line
    assert not path.exists()
    assert stage not in stages_run(finished.run("dvc", "repro", stage)), "what is in the cache is not computed again"
    assert path.read_bytes() == whole
    assert records(finished) == before


@contextmanager
def small_disk(folder, options):
    """A file system of its own on a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"only root can mount the small disk of this test: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize(("options", "problem"), [("size=200k", "No space left"), ("ro", "Read-only file system")])
def test_a_disk_that_is_full_or_read_only_is_named_and_costs_nothing_that_was_whole(finished, options, problem):
    before = records(finished)
    scratch = finished.home / "data/.scratch"
    shutil.rmtree(scratch)
    with small_disk(scratch, options):
        line = fails(finished, "python", "-m", "stages.capture")
        assert problem in line and "run dvc repro again" in line
    assert "capture" in stages_run(finished.run("dvc", "repro", "-f", "-s", "capture"))
    assert records(finished) == before
