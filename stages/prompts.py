"""Read the prompts file, check it, split it; and check what else would stop the study hours later."""

from pathlib import Path

from scenescope import labelers
from scenescope.errors import UserError
from scenescope.prompts import read_prompts, split_prompts
from scenescope.settings import AUTO, TARGETS, Params, load_model_settings
from stages.common import PROMPTS, run


def prompts(params: Params) -> None:
    settings = load_model_settings(Path("models") / params.model)
    for target in TARGETS:
        spec = getattr(params.labels, target)
        labelers.named(getattr(settings.labels, target) if spec == AUTO else spec, target)

    source = Path(settings.prompts if params.prompts.source == AUTO else params.prompts.source)
    if not source.resolve().is_relative_to(Path("prompts").resolve()):
        raise UserError(f"prompts.source: {source} is not below prompts/, where changes to it are seen")
    table = split_prompts(
        read_prompts(source),
        validation=params.prompts.validation,
        test=params.prompts.test,
        seed=params.prompts.seed,
    )
    PROMPTS.parent.mkdir(exist_ok=True)
    table.to_csv(PROMPTS, index=False, lineterminator="\n")


if __name__ == "__main__":
    run(prompts)
