"""Read the prompts file, check it, split it."""

from pathlib import Path

from scenescope.errors import UserError
from scenescope.prompts import read_prompts, split_prompts
from scenescope.settings import Params
from stages.common import PROMPTS, run


def prompts(params: Params) -> None:
    source = Path(params.prompts.source)
    if not source.resolve().is_relative_to(Path("prompts").resolve()):
        raise UserError(f"params.yaml: prompts.source: {source} is not below prompts/, where changes to it are seen")
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
