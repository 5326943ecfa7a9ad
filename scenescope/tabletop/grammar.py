"""Write tabletop's prompts files: combinations of words that its model was never trained on.

python -m scenescope.tabletop.grammar prompts
"""

import sys
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from scenescope.tabletop.scenes import COLOURS, SHAPES, TEMPLATES, all_words, held_out

COUNT = 617  # as many as the reference studies have
PER_CLASS = 2  # prompts for every colour and shape, for the classifier
SEED = 20_231_204


def prompts() -> pd.DataFrame:
    """617 prompts, no two alike, of held-out words, each with an id and a seed of its own."""
    rng = np.random.default_rng(SEED)
    choices = sorted(words.caption(t) for words in all_words() if held_out(words) for t in range(len(TEMPLATES)))
    chosen = [choices[i] for i in rng.permutation(len(choices))[:COUNT]]
    seeds = rng.choice(10**8, COUNT, replace=False)
    return pd.DataFrame({"prompt_id": [f"t{i:04d}" for i in range(COUNT)], "prompt": chosen, "seed": seeds})


def classes() -> pd.DataFrame:
    """Prompts that name a class, which is a colour and a shape: two for each of the 40, with seeds of their own."""
    rng = np.random.default_rng(SEED + 1)
    rows = []
    for shape, colour in rng.permutation(list(product(SHAPES, COLOURS))):  # mixed: figures show the first of them
        fitting = [w for w in all_words() if held_out(w) and (w.shape, w.colour) == (shape, colour)]
        choices = [words.caption(t) for words in fitting for t in range(len(TEMPLATES))]
        chosen = rng.choice(len(choices), PER_CLASS, replace=False)
        rows += [{"prompt": choices[i], "class": f"{colour} {shape}"} for i in chosen]
    seeds = rng.choice(10**8, len(rows), replace=False)
    return pd.DataFrame([{"prompt_id": f"c{i:03d}", **row, "seed": seeds[i]} for i, row in enumerate(rows)])


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    prompts().to_csv(folder / "tabletop.csv", index=False, lineterminator="\n")
    classes().to_csv(folder / "classes_tabletop.csv", index=False, lineterminator="\n")
