"""What was found, in sentences. They follow from the numbers, whichever model and settings these are of."""

from scenescope.settings import TARGETS

THING = {"saliency": "the salient object", "depth": "depth", "shading": "shading"}
SCORE = {"saliency": "Dice", "depth": "Spearman", "shading": "Spearman"}
VIEW = {"zt": "the half-denoised picture", "x0": "the clean picture that the model predicts at that step"}


def span(found: dict, name: str = "step") -> str:
    """A whole number with its interval, "3 [2, 3]"; "none" where there is none."""
    if found[name] is None:
        return "none"
    return f"{number(found[name])} [{number(found['low'])}, {number(found['high'])}]"


def number(value: int) -> str:
    return f"{value}".replace("-", "−")


def with_interval(row: dict, name: str, signed: bool = False) -> str:
    """A score with its interval: "0.90 [0.89, 0.90]"."""
    sign = "+" if signed else ""
    values = (row[name], row[f"{name}_low"], row[f"{name}_high"])
    if any(value is None or value != value for value in values):
        return "–"
    middle, low, high = (f"{value:{sign}.2f}".replace("-", "−") for value in values)
    return f"{middle} [{low}, {high}]"


def listed(names: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def sorted_out(onsets: dict, row: str) -> dict[str, list[str]]:
    """The targets where the probe's onset is earlier than a row's, later, or neither by the 95 % interval."""
    found: dict[str, list[str]] = {"earlier": [], "later": [], "open": [], "none": []}
    for target in TARGETS:
        gap = onsets[target][f"probe_before_{row}"]
        if gap["steps"] is None:
            found["none"].append(target)
        elif gap["low"] > 0:
            found["earlier"].append(target)
        else:
            found["later" if gap["high"] < 0 else "open"].append(target)
    return found


def headline(onsets: dict) -> str:
    """The study's answer in one line."""
    earlier = sorted_out(onsets, "zt")["earlier"]
    if len(earlier) == len(TARGETS):
        return "The model knows the scene before it can be seen."
    if earlier:
        return f"The model knows {listed([THING[t] for t in earlier])} before it can be seen; not all of the scene."
    return "No sign here that the model knows the scene before it can be seen."


def comparison(onsets: dict, row: str) -> str:
    """Who knows first: the probe in the activations, or the label model in ``row``'s picture."""
    of = sorted_out(onsets, row)
    sentences = []
    for kind, is_it in (("earlier", "before"), ("later", "only after")):
        if of[kind]:
            gaps = [f"{lead(onsets[t][f'probe_before_{row}']).rpartition(' ')[0]} for {t}" for t in of[kind]]
            things = listed([THING[t] for t in of[kind]])
            sentences.append(
                f"The activations hold {things} {is_it} a label model finds the same in {VIEW[row]}: by {listed(gaps)}."
            )
    if of["open"]:
        sentences.append(f"For {listed(of['open'])}, neither is first: the interval of the difference includes 0.")
    if of["none"]:
        sentences.append(
            f"For {listed(of['none'])}, there is nothing to compare: the probe or the label model has no onset, "
            "as its score does not end above zero."
        )
    return " ".join(sentences)


def position_caveat(onsets: dict) -> str:
    """How much of each score position alone gives away, and what onset is left above it."""
    shares = [f"{100 * onsets[t]['position_share']:.0f} % for {t}" for t in TARGETS if defined(onsets[t])]
    above = [f"{span(onsets[t]['above_position']['probe'])} for {t}" for t in TARGETS]
    first = (
        "Some of it takes no activations at all. A probe that knows only where in the picture a pixel is reaches "
        f"{listed(shares)} of the probe’s last score. "
        if shares
        else ""
    )
    return first + f"Counting only what the probe has above position, its onset is at step {listed(above)}."


def defined(found: dict) -> bool:
    share = found["position_share"]
    return share is not None and share == share


def best_layer(target: str, best: dict) -> str:
    """Where one target is known best."""
    return (
        f"{best['layer']} at step {best['step']}: {SCORE[target]} {with_interval(best, 'score')}; "
        f"{with_interval(best, 'above_position', signed=True)} above position, "
        f"{with_interval(best, 'above_random', signed=True)} above the same layer with random weights"
    )


def classified(named: dict) -> str:
    """When a classifier names what was prompted."""
    told = []
    for kind, view in (("zt", "the picture as it is"), ("x0", VIEW["x0"])):
        found = named[kind]
        told.append(
            f"On {view}, it never names half of them for good."
            if found["step"] is None
            else f"On {view}, it has named half of them for good by step {span(found)}."
        )
    return " ".join(told)


def behind(onsets: dict, row: str) -> str:
    """By how much the label model is later than the probe in ``row``'s picture, or earlier, for every target."""
    told = []
    for target in TARGETS:
        gap = onsets[target][f"probe_before_{row}"]
        if gap["steps"] is None:
            told.append(f"{THING[target]} at a step that cannot be compared")
        elif gap["low"] <= 0 <= gap["high"]:
            told.append(f"{THING[target]} neither clearly earlier nor later ({span(gap, 'steps')} steps)")
        else:
            steps = lead(gap).rpartition(" ")[0]
            told.append(f"{THING[target]} {steps} {'later' if gap['low'] > 0 else 'earlier'}")
    return f"In {VIEW[row]}, the label model finds {listed(told)} than the probe."


def lead(gap: dict) -> str:
    """How much earlier the probe is where it is clearly so, with the interval: "7 [6, 8] steps earlier"; or later."""
    if gap["low"] > 0:
        return f"{span(gap, 'steps')} steps earlier"
    turned = {"steps": -gap["steps"], "low": -gap["high"], "high": -gap["low"]}
    return f"{span(turned, 'steps')} steps later"
