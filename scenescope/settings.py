"""params.yaml and model.yaml as validated, typed settings. Every problem is one line that names the key."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError

from scenescope import weights
from scenescope.errors import UserError, nearest
from scenescope.layers import attention_layers

TARGETS = ("saliency", "depth", "shading")
AUTO = "auto"  # in params.yaml: as the model's model.yaml says
# What is fetched of a pipeline on the hub: no safety checker, and no second copy of the weights.
PIPELINE_FILES = [
    "*.json",
    "tokenizer/*",
    "text_encoder/model.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
]


def _batch_size(value: Any) -> Any:
    if value == AUTO or (type(value) is int and value >= 1):
        return value
    raise ValueError("expected auto or a whole number from 1 on")


Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


BatchSize = Annotated[Any, PlainValidator(_batch_size)]


class Strict(BaseModel):
    """Unknown keys and wrong types are errors: a knob that does nothing is worse than none."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Compute(Strict):
    engine: Literal["local", "ray"]
    workers: Count


class Prompts(Strict):
    source: str
    validation: Count
    test: Count
    seed: Seed


class Labels(Strict):
    saliency: str
    depth: str
    shading: str


class Batched(Strict):
    batch_size: BatchSize


class LearningRates(Strict):
    saliency: Rate
    depth: Rate
    shading: Rate


class Probe(Strict):
    layer: str
    solver: Literal["adam", "lbfgs"]
    epochs: Count
    batch_size: Count
    learning_rate: LearningRates
    seed: Seed


class Ridge(Strict):
    batch_size: BatchSize
    folds: Annotated[int, Field(ge=2)]
    penalties: Annotated[list[Rate], Field(min_length=1)]
    splits: Count
    seed: Seed


class Onset(Strict):
    share: Annotated[float, Field(gt=0, le=1)]
    batch_size: BatchSize


class Classify(Strict):
    prompts: str
    classifier: str
    batch_size: BatchSize


class Scores(Strict):
    resamples: Count
    seed: Seed


class Figures(Strict):
    images: Count


class Report(Strict):
    images: Count


class Params(Strict):
    """params.yaml."""

    model: str
    device: Literal["auto", "cpu", "cuda"]
    compute: Compute
    prompts: Prompts
    labels: Labels
    generate: Batched
    label: Batched
    capture: Batched
    probe: Probe
    ridge: Ridge
    onset: Onset
    classify: Classify
    scores: Scores
    figures: Figures
    report: Report


class ModelSettings(Strict):
    """model.yaml: what the pipeline has to know of a model.

    ``source`` is a folder beside it, in Diffusers' format, or with a ``revision`` a repository on the hub.
    ``dtype: auto`` is float16 on a GPU and float32 on a CPU.
    """

    source: str
    revision: Annotated[str, Field(pattern="^[0-9a-f]{40}$")] | None = None
    scheduler: Literal["LMSDiscreteScheduler", "DDIMScheduler"] | None = None
    image_size: Annotated[int, Field(ge=8, multiple_of=8)]
    steps: Annotated[int, Field(ge=1, le=1000)]
    guidance: Annotated[float, Field(ge=1, allow_inf_nan=False)]
    dtype: Literal["auto", "float32", "float16", "bfloat16"]
    batch_size: Count
    prompts: str
    labels: Labels
    classifier: str
    classes: str

    def pipeline(self, folder: Path, files: list[str] = PIPELINE_FILES) -> Path:
        """The folder of the pipeline, for the model in ``folder``; from the hub, the ``files`` of it."""
        if self.revision is None:
            return folder / self.source
        return weights.snapshot(self.source, self.revision, files)


def load_params(path: Path = Path("params.yaml"), models: Path = Path("models")) -> Params:
    """Read and check params.yaml, the model that it names, and that the model has the probed layer.

    What is ``auto`` comes back as the model's own (see ``with_own``).
    Raises UserError with one line: the file, the key, what was expected, and the nearest valid value.
    """
    params = parse(Params, path)
    if not (models / params.model / "model.yaml").is_file():
        known = sorted(file.parent.name for file in models.glob("*/model.yaml"))
        raise UserError(
            f"{path}: model: no folder models/{params.model} with a model.yaml{nearest(params.model, known)}"
        )
    names = [layer.name for layer in attention_layers(part_config(models / params.model, "unet"))]
    if not names:
        raise UserError(
            f"{models / params.model}: its U-Net has no self-attention layers, and there is nothing to probe"
        )
    if params.probe.layer not in names:
        unknown = f"{params.model} has no layer {params.probe.layer!r}"
        raise UserError(f"{path}: probe.layer: {unknown}{nearest(params.probe.layer, names)}")
    params = with_own(params, load_model_settings(models / params.model))
    for key, source in (("prompts.source", params.prompts.source), ("classify.prompts", params.classify.prompts)):
        if not Path(source).resolve().is_relative_to(Path("prompts").resolve()):
            raise UserError(f"{path}: {key}: {source} is not below prompts/, where changes to it are seen")
    return params


def with_own(params: Params, own: ModelSettings) -> Params:
    """The parameters with what the model's model.yaml says in place of every ``auto`` but the device's."""

    def filled(given: Strict, **values: Any) -> Strict:
        return given.model_copy(update={key: value for key, value in values.items() if getattr(given, key) == AUTO})

    batched = ("generate", "label", "capture", "ridge", "onset", "classify")
    changed = {name: filled(getattr(params, name), batch_size=own.batch_size) for name in batched}
    changed["prompts"] = filled(params.prompts, source=own.prompts)
    changed["labels"] = filled(params.labels, **own.labels.model_dump())
    changed["classify"] = filled(changed["classify"], prompts=own.classes, classifier=own.classifier)
    return params.model_copy(update=changed)


def load_model_settings(folder: Path) -> ModelSettings:
    """Read and check a model folder's model.yaml."""
    return parse(ModelSettings, folder / "model.yaml")


def part_config(folder: Path, part: str) -> dict[str, Any]:
    """The configuration of the ``unet`` or ``vae`` of a model folder, without loading weights."""
    file = load_model_settings(folder).pipeline(folder, [f"{part}/config.json"]) / part / "config.json"
    if not file.is_file():
        raise UserError(f"{folder / 'model.yaml'}: source: no file {file}; expected a pipeline in Diffusers' format")
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise UserError(f"{file}: not valid JSON: {error}") from None


def parse(kind: type[BaseModel], path: Path):
    """A YAML file as settings of a kind. Raises UserError with the first thing that is wrong."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (ValueError, yaml.YAMLError) as error:  # PyYAML lets a date that is none through as ValueError
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise UserError(_one_line(kind, path, error.errors()[0])) from None


def _one_line(kind: type[BaseModel], path: Path, problem: dict) -> str:
    """Pydantic's first complaint as "file: key: what is wrong, got value"."""
    where = [str(part) for part in problem["loc"]]
    key = ".".join(where)
    if problem["type"] == "extra_forbidden":
        return f"{path}: unknown key {key}{nearest(where[-1], _fields(kind, where[:-1]))}"
    if problem["type"] == "missing":
        return f"{path}: the key {key} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    return f"{path}: {key or 'file'}: {message}, got {problem['input']!r}"


def _fields(kind: type[BaseModel], parents: list[str]) -> list[str]:
    for name in parents:
        kind = kind.model_fields[name].annotation
    return list(kind.model_fields)
