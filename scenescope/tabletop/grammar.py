"""Write tabletop's prompts file: combinations of words that its model was never trained on.

python -m scenescope.tabletop.grammar prompts/tabletop.csv
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from scenescope.tabletop.scenes import TEMPLATES, all_words, held_out

COUNT = 617  # as many as the reference studies have
SEED = 20_231_204


def prompts() -> pd.DataFrame:
    """617 prompts, no two alike, of held-out words, each with an id and a seed of its own."""
    rng = np.random.default_rng(SEED)
    choices = sorted(words.caption(t) for words in all_words() if held_out(words) for t in range(len(TEMPLATES)))
    chosen = [choices[i] for i in rng.permutation(len(choices))[:COUNT]]
    seeds = rng.choice(10**8, COUNT, replace=False)
    return pd.DataFrame({"prompt_id": [f"t{i:04d}" for i in range(COUNT)], "prompt": chosen, "seed": seeds})


if __name__ == "__main__":
    prompts().to_csv(Path(sys.argv[1]), index=False, lineterminator="\n")
