"""A model on the hub, from a server that speaks the hub's language: what is fetched, and that it runs offline after."""

import hashlib
import json
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from conftest import stages_run
from test_own_model import add_model

REPOSITORY, REVISION = "somebody/model", "0123456789abcdef0123456789abcdef01234567"
# What repositories of Stable Diffusion hold beside what is needed.
OTHERS = (
    "README.md",
    "model-ema.ckpt",
    "feature_extractor/preprocessor_config.json",
    "safety_checker/model.safetensors",
    "text_encoder/pytorch_model.bin",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.bin",
    "vae/diffusion_pytorch_model.non_ema.safetensors",
)


class Hub(BaseHTTPRequestHandler):
    """The two calls of the hub's interface that fetching needs: list a revision's files, and give one."""

    protocol_version = "HTTP/1.1"

    def __init__(self, folder, fetched, *args):
        self.folder, self.fetched = folder, fetched
        super().__init__(*args)

    def do_GET(self):
        path = self.path.split("?")[0]
        if path == f"/api/models/{REPOSITORY}/tree/{REVISION}":
            files = [file for file in sorted(self.folder.rglob("*")) if file.is_file()]
            listed = [
                {
                    "type": "file",
                    "path": str(file.relative_to(self.folder)),
                    "size": file.stat().st_size,
                    "oid": digest(file),
                }
                for file in files
            ]
            self.answer(json.dumps(listed).encode(), {"Content-Type": "application/json"})
        elif path.startswith(f"/{REPOSITORY}/resolve/{REVISION}/"):
            name = path.split(REVISION + "/")[1]
            content = (self.folder / name).read_bytes()
            if self.command == "GET":
                self.fetched.append(name)
            self.answer(content, {"ETag": f'"{digest(self.folder / name)}"', "X-Repo-Commit": REVISION})
        else:
            self.send_error(404)

    do_HEAD = do_GET

    def answer(self, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(200)
        for name, value in {**headers, "Content-Length": len(content)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *args):
        pass


def digest(file) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()


@pytest.fixture
def hub(tmp_path_factory, monkeypatch):
    """A folder that a hub on this machine publishes, and the list of the files that were fetched from it."""
    folder, fetched = tmp_path_factory.mktemp("published"), []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, folder, fetched))
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HOME", str(tmp_path_factory.mktemp("cache")))
    yield folder, fetched
    server.shutdown()


def test_a_pinned_revision_is_fetched_without_what_is_not_needed_and_then_runs_offline(study, hub, monkeypatch):
    folder, fetched = hub
    add_model(study, source=REPOSITORY, revision=REVISION)
    (study.home / "models/mine/weights").rename(folder / "all")
    for file in (folder / "all").iterdir():
        file.rename(folder / file.name)
    (folder / "all").rmdir()
    index = json.loads((folder / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    (folder / "model_index.json").write_text(json.dumps(index))
    for name in OTHERS:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
    study.settings("params.yaml", model="mine", probe__layer="dec2_l2")

    study.run("dvc", "repro", "prompts")
    assert fetched == ["unet/config.json", "vae/config.json"]
    study.run("dvc", "repro", "generate")
    weights = {f"{part}/diffusion_pytorch_model.safetensors" for part in ("unet", "vae")}
    assert weights | {"text_encoder/model.safetensors", "model_index.json", "tokenizer/tokenizer.json"} <= set(fetched)
    assert not {name for name in fetched if name in OTHERS and not name.endswith(".json")}
    assert len(fetched) == len(set(fetched))

    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert stages_run(study.run("dvc", "repro", "capture")) == ["capture"]
