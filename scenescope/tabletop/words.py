"""Tabletop's tokenizer: CLIP's byte-pair encoding with a vocabulary learned from the captions alone."""

import json
from itertools import product

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from scenescope.tabletop.scenes import TEMPLATES, all_words

MAX_TOKENS = 24  # the longest caption takes 16


def build_tokenizer() -> CLIPTokenizer:
    """A CLIPTokenizer in which each word of the grammar is one token and any other text is bytes."""
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Lowercase()
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    captions = sorted(words.caption(t) for words, t in product(all_words(), range(len(TEMPLATES))))
    # A comma or a space glued to a word would be learned as part of it.
    pieces = [piece for caption in captions for piece in caption.replace(",", " , ").split()]
    # Pairs as frequent as each other are merged in the order of their numbers: give them, or they come by chance.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = alphabet + [letter + "</w>" for letter in alphabet]
    trainer = trainers.BpeTrainer(end_of_word_suffix="</w>", special_tokens=letters, show_progress=False)
    learner.train_from_iterator(pieces, trainer)
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    tokens = letters + ["".join(pair) for pair in merges]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    for special in ("<|startoftext|>", "<|endoftext|>"):
        vocabulary[special] = len(vocabulary)
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_TOKENS)
