"""A stage in parts, by hand or on a real Ray cluster of two workers, writes what one process writes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Study

pytestmark = pytest.mark.slow

OUTPUTS = ["data/trajectories", "data/predictions", "data/images", "data/labels/depth", "data/map"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A study of four shards of images, and what one process makes of it with one thread, as a worker has."""
    study = Study.new(tmp_path_factory.mktemp("alone"))
    study.shrink(prompts=100, validation=4, test=12, steps=3)
    run(study, "prompts")
    for stage in ("generate", "label saliency", "label depth", "label shading", "ridge"):
        run(study, stage)
    return study


def command(stage):
    return [sys.executable, "-m", *f"stages.{stage}".split()]


def environment():
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


def run(study, stage):
    done = subprocess.run(command(stage), cwd=study.home, env=environment(), text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fresh(alone, folder, **settings):
    """A copy of the study with its prompts read and nothing else."""
    study = object.__new__(Study)
    study.home = folder
    shutil.copytree(alone.home, folder, ignore=shutil.ignore_patterns("data", "plots", "metrics", ".git"))
    (folder / "data").mkdir()
    shutil.copy(alone.home / "data/prompts.csv", folder / "data/prompts.csv")
    study.settings("params.yaml", **settings)
    return study


def contents(home, output):
    folder = home / output
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def arrays(home, output):
    """Files' bytes, but of .npz files, which carry the time of day, their arrays' bytes."""
    import numpy as np

    found = {}
    for name, content in contents(home, output).items():
        if name.endswith(".npz"):
            with np.load(home / output / name) as stored:
                content = {key: stored[key].tobytes() for key in stored}
        found[name] = content
    return found


def test_parts_by_hand_in_any_order_are_what_one_process_writes(alone, tmp_path):
    study = fresh(alone, tmp_path / "parts")
    for part in ("2/3", "3/3", "1/3"):
        run(study, f"generate --part {part}")
        assert not (study.home / "data/trajectories").exists(), "a part is not the whole"
    told = subprocess.run(command("generate"), cwd=study.home, env=environment(), text=True, capture_output=True)
    assert told.returncode == 0 and "100%" in told.stderr
    for output in OUTPUTS[:3]:
        assert contents(study.home, output) == contents(alone.home, output)


def test_a_part_that_is_none_is_one_line(alone):
    done = subprocess.run(
        command("generate --part 4/3"), cwd=alone.home, env=environment(), text=True, capture_output=True
    )
    assert done.returncode == 1 and "expected K/N" in done.stderr and "Traceback" not in done.stderr


def workers():
    """Processes of Ray that are at work on a part."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], check=True, capture_output=True, text=True).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if "ray::work" in line]


def test_two_workers_of_ray_one_of_them_killed_in_mid_shard_write_what_one_process_writes(alone, tmp_path):
    study = fresh(alone, tmp_path / "ray", compute__engine="ray", compute__workers=2)
    with subprocess.Popen(
        command("generate"),
        cwd=study.home,
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        scratch = study.home / "data/.scratch"
        while not list(scratch.glob("trajectories-*/c/*/0/0/0/0")):  # a first shard: others are being computed
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.05)
        os.kill(workers()[0], signal.SIGKILL)
        output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert "generate --part 1/2: " in output and "generate --part 2/2: " in output
    for stage in ("label saliency", "label depth", "label shading", "ridge"):
        run(study, stage)
    for output in OUTPUTS:
        assert arrays(study.home, output) == arrays(alone.home, output), output
    for name in ("metrics/ridge.json", "plots/data/layer_step.csv"):
        assert (study.home / name).read_bytes() == (alone.home / name).read_bytes()


def test_what_a_worker_says_is_wrong_is_one_line(alone, tmp_path):
    study = fresh(alone, tmp_path / "wrong", compute__engine="ray")
    done = subprocess.run(command("label depth"), cwd=study.home, env=environment(), text=True, capture_output=True)
    assert done.returncode == 1 and done.stderr.startswith("error: data/images: No such file")
    assert "Traceback" not in done.stderr
