"""Killed at any moment, a stage goes on from its last whole shard and ends where an undisturbed run ends.

Twenty kills of every long stage take some minutes each, so these tests are slow ones.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, Study

KILLS = 20
STAGES = {  # and where their shards or steps lie while they run
    "generate": ["data/.scratch/trajectories-*/c/**/*", "data/.scratch/predictions-*/c/**/*"],
    "label@depth": ["data/labels/.scratch/depth-*/c/**/*"],
    "capture": ["data/.scratch/activations-*/c/**/*"],
    "ridge": ["data/.scratch/map-*/step_*.npz"],
    "see": ["data/.scratch/onset-*/step_*.npz"],
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A study of four shards of images and three steps, and the records of a run that nobody disturbed."""
    study = Study.new(tmp_path_factory.mktemp("crashes"))
    study.shrink(prompts=100, validation=4, test=12, steps=3)
    study.run("dvc", "repro", *(stage for stage in STAGES if stage != "label@depth"))
    return study, records(study)


def records(study):
    return yaml.safe_load((study.home / "dvc.lock").read_text())["stages"]


def forget(study, stage):
    """Make DVC forget that the stage has ever run."""
    lock = study.home / "dvc.lock"
    values = yaml.safe_load(lock.read_text())
    values["stages"].pop(stage, None)
    lock.write_text(yaml.safe_dump(values))
    for folder in (".dvc/cache/runs", "data/.scratch", "data/labels/.scratch"):
        shutil.rmtree(study.home / folder, ignore_errors=True)


def started(command, home):
    """Start a command, apart from us, that says what it does in a file beside its folder."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with told(home).open("w") as file:
        return subprocess.Popen(
            command, cwd=home, env=environment, start_new_session=True, stdout=file, stderr=subprocess.STDOUT
        )


def told(home):
    return home.with_suffix(".log")


def killed(process, home, after):
    """Kill the process and all that it has started, ``after`` seconds from now; False if it ended before."""
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    assert process.returncode == 0, told(home).read_text()
    return False


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_is_killed_twenty_times_ends_as_if_it_had_not_been(undisturbed, stage):
    study, expected = undisturbed
    forget(study, stage)
    start = time.monotonic()
    study.run("dvc", "repro", "-s", stage)
    usual = time.monotonic() - start
    forget(study, stage)

    lock, locks = study.home / "dvc.lock", study.home / ".dvc/tmp/rwlock"
    without = lock.read_bytes()

    def mend():
        """What the README says: DVC writes two files in place, so a kill can cut them. Git has the dvc.lock before."""
        try:
            json.loads(locks.read_text())
        except ValueError:
            locks.unlink()
        try:
            now = records(study)
            if now in (expected, {name: expected[name] for name in expected if name != stage}):
                return
        except (yaml.YAMLError, TypeError, KeyError):
            pass
        lock.write_bytes(without)

    def finished():
        """Whole shards, by their file's identity: a shard that is written anew is another file."""
        files = [file for pattern in STAGES[stage] for file in study.home.glob(pattern) if file.is_file()]
        return {file: file.stat().st_ino for file in files if file.suffix != ".partial"}

    kept, kills, draw = {}, 0, random.Random(stage)
    while kills < KILLS:
        if killed(started(["dvc", "repro", "-s", stage], study.home), study.home, draw.uniform(0, usual)):
            kills += 1
            mend()
            now = finished()
            assert kept.items() <= now.items(), "a shard that was whole has been computed again"
            kept = now
        else:
            assert records(study)[stage] == expected[stage]
            forget(study, stage)
            kept = {}
    study.run("dvc", "repro", "-s", stage)
    assert kept.items() <= finished().items()
    assert records(study) == expected


TRAINING = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
import torch
from scenescope.tabletop import training
training.SAVE_EVERY = 4
folder = Path(sys.argv[1])
torch.manual_seed(0)
torch.set_num_threads(1)
model = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 3, padding=1), torch.nn.SiLU(), torch.nn.Conv2d(32, 3, 3, padding=1))
def loss_of(model, step):
    images = torch.rand(16, 3, 64, 64)
    return (model(images) - images).square().mean()
trained = training.fit(model, loss_of, steps=120, learning_rate=0.01, seed=0, checkpoint=folder / "checkpoint.pt",
                       curve=folder / "curve.csv", warmup=5)
torch.save(trained.state_dict(), folder / "trained.pt")
"""


def test_a_training_that_is_killed_twenty_times_ends_with_the_same_weights(tmp_path):
    import torch

    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", TRAINING, tmp_path / "whole"], check=True, capture_output=True)
    usual = time.monotonic() - start
    draw, kills = random.Random(0), 0
    while kills < KILLS:
        command = [sys.executable, "-c", TRAINING, str(tmp_path / "cut")]
        if killed(started(command, tmp_path), tmp_path, draw.uniform(0, usual)):
            kills += 1
        else:
            (tmp_path / "cut" / "checkpoint.pt").unlink()
    subprocess.run([sys.executable, "-c", TRAINING, tmp_path / "cut"], check=True, capture_output=True)
    whole, cut = (torch.load(tmp_path / name / "trained.pt", weights_only=True) for name in ("whole", "cut"))
    assert all(torch.equal(whole[key], cut[key]) for key in whole)
    assert (tmp_path / "whole/curve.csv").read_text() == (tmp_path / "cut/curve.csv").read_text()
