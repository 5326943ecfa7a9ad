"""What tests share: a study of their own, small, in a repository of its own; and a browser that is watched.

The browser is the Chromium that the environment variable CHROMIUM names, or the one on the PATH.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest
import yaml
from filelock import FileLock

# Where workers share the tests, each of them and all that it starts compute in a thread of their own. PyTorch reads it
# when it is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"

ROOT = Path(__file__).parent.parent
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")

# A busy machine is not a failure; and what lands is judged on the same examples every time.
hypothesis.settings.register_profile("scenescope", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("scenescope")


class Study:
    """A temporary folder with a git and DVC repository of its own."""

    def __init__(self, home: Path):
        self.home = home

    @classmethod
    def new(cls, home: Path) -> "Study":
        """A clone of the project: its files as they are now."""
        study = cls(home)
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
        )
        for name in listed.stdout.splitlines():
            if (ROOT / name).is_file():
                (home / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, home / name)
        study.run("git", "init", "-q")
        study.sign()
        return study

    def sign(self) -> None:
        self.run("git", "config", "user.email", "test@example.com")
        self.run("git", "config", "user.name", "test")

    def run(self, *command: str, fails: bool = False) -> str:
        """Run a command in the clone and return what it printed, both streams together."""
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(
            command, cwd=self.home, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert (done.returncode != 0) == fails, done.stdout
        return done.stdout

    def settings(self, file: str, **changes) -> None:
        """Change keys of a YAML file: ``probe__epochs=2`` is probe.epochs."""
        path = self.home / file
        values = yaml.safe_load(path.read_text())
        for name, value in changes.items():
            *parents, last = name.split("__")
            inner = values
            for parent in parents:
                inner = inner[parent]
            inner[last] = value
        path.write_text(yaml.safe_dump(values, sort_keys=False))

    def shrink(self, prompts: int = 18, validation: int = 3, test: int = 6, steps: int = 4) -> None:
        """Make the study small: few prompts, few steps, two epochs. Commit it."""
        for name, count in (("tabletop", prompts), ("classes_tabletop", 4)):
            path = self.home / "prompts" / f"{name}.csv"
            path.write_text("".join(path.read_text().splitlines(keepends=True)[: count + 1]))
        self.settings(
            "params.yaml",
            prompts__validation=validation,
            prompts__test=test,
            probe__epochs=2,
            scores__resamples=200,
            figures__images=1,
            report__images=3,
        )
        self.settings("models/tabletop/model.yaml", steps=steps)
        # The committed lock and results are of the full study.
        for name in ("dvc.lock", "metrics", "plots"):
            path = self.home / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        self.commit("small")

    def copied(self, home: Path) -> "Study":
        """The same study in another folder, with all that has been run."""
        shutil.copytree(self.home, home, symlinks=True)
        return Study(home)

    def commit(self, message: str) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "--allow-empty", "-m", message)


def stages_run(output: str) -> list[str]:
    """The stages that dvc repro or dvc exp run says that it ran, not those that it skipped or restored."""
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


@pytest.fixture
def study(tmp_path) -> Study:
    """A small study on the embedded model, nothing run yet."""
    made = Study.new(tmp_path)
    made.shrink()
    return made


@pytest.fixture(scope="session")
def done(tmp_path_factory, worker_id):
    """A small study that has been run once and committed, and what the run printed. Leave it as it was.

    It is run by the worker that wants it first, and each worker has a copy of its own.
    """
    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent
    original, printed = Study(shared / "original"), shared / "printed.txt"
    with FileLock(shared / "original.lock"):
        if not printed.exists():
            original.home.mkdir(exist_ok=True)
            Study.new(original.home).shrink()
            output = original.run("dvc", "repro")
            original.commit("results")
            printed.write_text(output)
    return original.copied(own / "done"), printed.read_text()


@pytest.fixture(scope="session")
def browser():
    if not CHROMIUM:
        pytest.skip("no Chromium: neither the variable CHROMIUM nor the PATH names one (Debian: apt install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        root = hasattr(os, "geteuid") and os.geteuid() == 0  # which Chromium's sandbox refuses
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"] if root else [])
        yield launched
        launched.close()


@pytest.fixture
def watched(browser):
    """Opens the first of some files at a width. At the end, nothing was complained of, and nothing else was fetched."""
    contexts, problems, requests, allowed = [], [], set(), set()

    def opened(files, width=1440, **how):
        addresses = [file.as_uri() for file in files]
        allowed.update(addresses)
        context = browser.new_context(viewport={"width": width, "height": 900}, **how)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))

        def count(route):
            requests.add(route.request.url)
            if route.request.url in allowed:
                route.continue_()
            else:
                route.abort()

        page.route(lambda url: not url.startswith("data:"), count)
        page.goto(addresses[0])
        return page

    yield opened
    for context in contexts:
        context.close()
    assert problems == []
    assert requests <= allowed
