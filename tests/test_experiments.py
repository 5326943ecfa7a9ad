"""A sweep: experiments in a queue, two at a time, and what DVC does with them afterwards."""

import json
import time

import pytest

pytestmark = pytest.mark.slow

LAYERS = ["dec2_l1", "dec3_l2", "dec4_l2"]


def listed(study):
    """Experiments by layer: name, state and depth's last score, as dvc exp show has them."""
    found = {}
    for revision in json.loads(study.run("dvc", "exp", "show", "--json", "--no-fetch"))[1].get("experiments") or []:
        for state in revision["revs"]:
            data = state["data"]
            layer = data["params"]["params.yaml"]["data"]["probe"]["layer"]
            metrics = data["metrics"]["metrics/probe/depth.json"]["data"]
            found[layer] = {"name": revision["name"], "score": metrics["last_step"]["spearman"], "of": metrics["layer"]}
    return found


@pytest.fixture(scope="module")
def swept(done):
    """The small study, in which a queue of three layers has been run by two workers."""
    study, _ = done
    study.run("dvc", "exp", "run", "--queue", "-S", f"probe.layer={','.join(LAYERS)}")
    assert study.run("dvc", "queue", "status").count("Queued") == len(LAYERS)
    study.run("dvc", "queue", "start", "-j", "2")
    limit = time.monotonic() + 900
    while any(word in study.run("dvc", "queue", "status") for word in ("Queued", "Running")):
        assert time.monotonic() < limit
        time.sleep(3)
    yield study
    study.run("dvc", "queue", "stop")
    study.run("dvc", "exp", "remove", "--all-commits")
    study.run("git", "checkout", "-q", ".")
    study.run("dvc", "checkout")


def test_two_workers_finish_a_queue_with_each_layers_own_numbers(swept):
    status = swept.run("dvc", "queue", "status")
    assert status.count("Success") == len(LAYERS) and "Failed" not in status, status
    found = listed(swept)
    assert set(found) == set(LAYERS)
    assert all(row["of"] == layer for layer, row in found.items())
    assert len({row["score"] for row in found.values()}) == len(LAYERS)


def test_an_experiment_of_the_queue_is_what_a_plain_run_gives_and_can_be_applied_and_branched(swept):
    found = listed(swept)[LAYERS[0]]
    swept.run("dvc", "exp", "apply", found["name"])
    applied = (swept.home / "metrics/probe/depth.json").read_text()
    assert json.loads(applied)["layer"] == LAYERS[0]
    # From nothing but the settings: neither the run cache nor the applied files help.
    output = swept.run("dvc", "repro", "--no-run-cache", "-f", "-s", "capture", "probe@depth")
    assert "Running stage 'probe@depth'" in output
    assert (swept.home / "metrics/probe/depth.json").read_text() == applied
    swept.run("dvc", "exp", "branch", found["name"], "of-the-queue")
    assert LAYERS[0] in swept.run("git", "show", "of-the-queue:params.yaml")
    swept.run("git", "checkout", "-q", ".")
    swept.run("dvc", "checkout")


def test_an_experiment_in_a_temporary_copy_finds_weights_and_environment(swept):
    output = swept.run("dvc", "exp", "run", "--temp", "-S", "probe.epochs=1")
    assert "Running stage 'probe@depth'" in output and "Ran experiment" in output
    assert "epochs: 2" in (swept.home / "params.yaml").read_text(), "the workspace is as it was"
