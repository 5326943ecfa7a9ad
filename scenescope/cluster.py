"""A stage's parts on the workers of a Ray cluster, which sees the project's folder under the same path everywhere.

A worker opens the model once, writes the shards of its part into the stage's scratch folder, and hands back one row of
a manifest. If it dies, Ray gives its part to another, which goes on from the last whole shard.
"""

import importlib
import os
import socket
import sys
import time

import ray

from scenescope.errors import UserError, of_the_disk

RETRIES = 5  # of a part whose worker has died


def spread(run: str, command: list[str], parts: int, gpu: bool) -> None:
    """On the cluster, run a stage's ``command`` with ``--part K/parts`` for every part, and then as it stands, which
    finds their shards and finishes the stage.

    ``run``, as "module:function", takes the command's words in a worker. The cluster is the one at RAY_ADDRESS or on
    this machine, and where there is none, one is started here. Each part gets a GPU if there are any and ``gpu``,
    else its share of the processors. Raises UserError with what a part says is wrong.
    """
    ray.init(log_to_driver=False, logging_level="error")
    try:
        total = ray.cluster_resources()
        cores = max(1, int(total.get("CPU", 1)) // parts)
        home = os.getcwd()

        # Defined here, and so sent to the workers as it is: they cannot import it before they know where it lies.
        @ray.remote(num_cpus=cores, num_gpus=int(gpu and total.get("GPU", 0) >= 1), max_retries=RETRIES)
        def work(words: list[str]) -> dict:
            os.chdir(home)
            if home not in sys.path:
                sys.path.insert(0, home)
            return importlib.import_module("scenescope.cluster").row(run, words)

        left = [work.remote([*command, "--part", f"{k + 1}/{parts}"]) for k in range(parts)]
        try:
            while left:
                (first, *_), left = ray.wait(left)
                report(ray.get(first))
        except UserError:
            stop(left)
            raise
        report(ray.get(work.remote(command)))
    except ray.exceptions.RayError as error:
        told = " ".join(str(error).split())[-300:]
        raise UserError(f"{' '.join(command)}: Ray: {told}; run dvc repro again to go on") from None
    finally:
        ray.shutdown()


def stop(left: list[ray.ObjectRef]) -> None:
    """End parts that are still at work; their whole shards stay. A shutdown that meets one at work may have Ray write
    a line of its own before the one that says what is wrong."""
    for part in left:
        ray.cancel(part, force=True)
    while left:
        _, left = ray.wait(left)


def row(run: str, words: list[str]) -> dict:
    """Run a command's words in this process. Returns its row of the manifest."""
    module, function = run.split(":")
    start, problem = time.monotonic(), None
    try:
        getattr(importlib.import_module(module), function)(words)
    except UserError as error:
        problem = str(error)
    except OSError as error:
        problem = of_the_disk(error)
    seconds = round(time.monotonic() - start, 1)
    return {"part": words, "machine": socket.gethostname(), "seconds": seconds, "problem": problem}


def report(row: dict) -> None:
    """Print a row of the manifest. Raises UserError if the part says that something is wrong."""
    if row["problem"]:
        raise UserError(row["problem"])
    print(f"{' '.join(row['part'])}: {row['seconds']} s on {row['machine']}", flush=True)
