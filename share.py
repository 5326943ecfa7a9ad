"""What a team shares, every run of it: python share.py lists it with sizes, `push` sends it, `pull` fetches a commit's.

`dvc push --run-cache` sends the outputs of the workspace, but of all other runs only the records (DVC 3.67), and never
a metric or curve that is in git. A teammate would find the record of your run without its files, and compute it again.
"""

import argparse
import logging
import os
import warnings
from collections import defaultdict
from pathlib import Path

import yaml
from dvc.config import NoRemoteError
from dvc.exceptions import DvcException
from dvc.repo import Repo, lock_repo
from dvc_data.hashfile import load
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree


def sizes(repo: Repo) -> dict[str, dict[str, int]]:
    """Path of an output -> the hash of each of its versions that this cache holds -> bytes."""
    records = [yaml.safe_load(file.read_text()) for file in Path(repo.stage_cache.cache_dir).glob("*/*/*")]
    lock = Path(repo.root_dir, "dvc.lock")
    if lock.exists():
        records += yaml.safe_load(lock.read_text())["stages"].values()
    found = defaultdict(dict)
    for record in records:
        for out in record.get("outs", []):
            if "md5" in out and repo.cache.local.exists(out["md5"]):
                found[out["path"]][out["md5"]] = out["size"]
    return found


def kept(repo: Repo) -> set[str]:
    """The outputs that dvc.yaml says are not to be sent."""
    return {out.def_path for out in repo.index.outs if not out.can_push}


def readable(size: int) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"


def table(found: dict[str, dict[str, int]], stay: set[str]) -> str:
    """A line an output, and the sum of what is shared."""
    lines = [f"{'output':<40}{'versions':>10}{'size':>12}"]
    for path, versions in sorted(found.items()):
        note = "  stays here (push: false)" if path in stay else ""
        lines.append(f"{path:<40}{len(versions):>10}{readable(sum(versions.values())):>12}{note}")
    total = sum(sum(versions.values()) for path, versions in found.items() if path not in stay)
    lines.append(f"{'all that is shared':<50}{readable(total):>12}")
    return "\n".join(lines)


def listing(repo: Repo) -> str:
    return table(sizes(repo), kept(repo))


def objects(repo: Repo, md5: str) -> set[HashInfo]:
    """The object of an output, and if that is a folder, those of its files: DVC sends what it is told, no more."""
    obj = load(repo.cache.local, HashInfo("md5", md5))
    return {obj.hash_info, *(inner for _, _, inner in obj)} if isinstance(obj, Tree) else {obj.hash_info}


def push(repo: Repo) -> str:
    """Files first, then the records: whoever finds a record finds its files."""
    found, stay = sizes(repo), kept(repo)
    print(table(found, stay), flush=True)
    outputs = {md5 for path, versions in found.items() if path not in stay for md5 in versions}
    with lock_repo(repo):
        done = repo.cloud.push(set().union(*(objects(repo, md5) for md5 in outputs)))
        if done.failed:
            raise DvcException(f"{len(done.failed)} files were not sent")
        records = repo.stage_cache.push(None)
    return f"{len(done.transferred)} files sent that were not there yet, and the records of {len(records)} stages"


def pull(repo: Repo) -> str:
    """The results of the commit, but for what is not sent: DVC would call their absence an error."""
    repo.cloud.get_remote(command="pull")  # raises at once if there is none
    repo.pull(allow_missing=True)
    stay = kept(repo)
    missing = {out.def_path for out in repo.index.outs if out.use_cache and not out.exists}
    if missing - stay:
        raise DvcException(
            f"not on the remote: {', '.join(sorted(missing - stay))}; whoever ran this has not pushed it"
        )
    apart = [f"but for {path}, which is not sent (push: false): dvc repro makes it again" for path in sorted(missing)]
    return "\n".join(["all results of this commit are here", *apart])


class Troubles(logging.Handler):
    """What DVC only logs, such as a record that did not arrive: kept, as a push that lacks it is no success."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.seen = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record.exc_info[1] if record.exc_info else record.getMessage())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", nargs="?", choices=["list", "push", "pull"], default="list")
    action = {"list": listing, "push": push, "pull": pull}[parser.parse_args().action]
    troubles = Troubles()
    for name in ("dvc", "dvc_data", "dvc_objects"):
        logging.getLogger(name).handlers = [troubles]
    # Of a server that is down boto makes sure four times for every file, which takes minutes.
    os.environ.setdefault("AWS_MAX_ATTEMPTS", "2")
    warnings.filterwarnings("ignore", message="coroutine .* was never awaited")  # how s3fs leaves a failed connection
    try:
        with Repo() as repo:
            said = action(repo)
        if troubles.seen:
            raise DvcException("not everything arrived")
    except NoRemoteError:
        raise SystemExit("error: no remote yet; dvc remote add -d team s3://bucket/folder sets one") from None
    except Exception as error:  # whatever the client of this kind of remote raises
        # What DVC logs comes first in time, and is the reason; what it raises afterwards only counts.
        reason = (troubles.seen or [error])[0]
        told = (str(reason) or type(reason).__name__).splitlines()[0] + (
            f": {reason.__cause__}" if reason.__cause__ else ""
        )
        raise SystemExit(
            f"error: {told}\nWhat has arrived stays: once this is mended, the same command does the rest."
        ) from None
    print(said)


if __name__ == "__main__":
    main()
