"""List what has been run here, with sizes: python share.py. Send it to the team's remote: python share.py push.

`dvc push --run-cache` sends the outputs of the workspace, but of all other runs only the records (DVC 3.67), and never
a metric or curve that is in git. A teammate would find the record of your run without its files, and compute it again.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import yaml
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


def readable(size: int) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"


def table(found: dict[str, dict[str, int]], kept: set[str]) -> str:
    lines = [f"{'output':<40}{'versions':>10}{'size':>12}"]
    for path, versions in sorted(found.items()):
        note = "  stays here (push: false)" if path in kept else ""
        lines.append(f"{path:<40}{len(versions):>10}{readable(sum(versions.values())):>12}{note}")
    total = sum(sum(versions.values()) for path, versions in found.items() if path not in kept)
    lines.append(f"{'all that is shared':<50}{readable(total):>12}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", nargs="?", choices=["list", "push"], default="list")
    action = parser.parse_args().action
    with Repo() as repo:
        found = sizes(repo)
        kept = {out.def_path for out in repo.index.outs if not out.can_push}
        print(table(found, kept))
        if action == "push":
            push(repo, {md5 for path, versions in found.items() if path not in kept for md5 in versions})


def objects(repo: Repo, md5: str) -> set[HashInfo]:
    """The object of an output, and if that is a folder, those of its files: DVC sends what it is told, no more."""
    obj = load(repo.cache.local, HashInfo("md5", md5))
    return {obj.hash_info, *(inner for _, _, inner in obj)} if isinstance(obj, Tree) else {obj.hash_info}


def push(repo: Repo, outputs: set[str]) -> None:
    """Files first, then the records: whoever finds a record finds its files."""
    try:
        with lock_repo(repo):
            done = repo.cloud.push(set().union(*(objects(repo, md5) for md5 in outputs)))
            if done.failed:
                raise DvcException(f"{len(done.failed)} files were not sent")
            records = repo.push(run_cache=True)
    except Exception as error:  # whatever the client of this kind of remote raises
        told = f"{error or type(error).__name__}" + (f": {error.__cause__}" if error.__cause__ else "")
        raise SystemExit(f"{told}\nWhat has arrived stays; run the same command again to send the rest.") from None
    print(f"{len(done.transferred) + records} files and records sent")


if __name__ == "__main__":
    main()
