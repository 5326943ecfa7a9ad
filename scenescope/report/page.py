"""The page itself: the template with its style, script and data, all in one text."""

import json
from collections.abc import Iterable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from scenescope.disk import size
from scenescope.errors import UserError

FOLDER = Path(__file__).parent
LIMIT = 15_000_000  # bytes of a page that opens at once, and that mail and issue trackers still take
KEPT_FREE = 3_000_000  # bytes of them that test images leave to the classified ones


def render(words: dict, data: dict) -> str:
    """The page, from what the template says (``words``) and what the script shows (``data``, JSON)."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # In a script element, "</" would end it.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    files = {kind: (FOLDER / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js")}
    return environment.get_template("page.html").render(**words, **files, data=text)


def fitting(images: Iterable[dict], rest: int, limit: int = LIMIT) -> list[dict]:
    """As many of the images, in their order, as fit into a page of ``limit`` bytes beside its ``rest``.

    Images are taken one by one, so that those which no longer fit are not made. Raises UserError if none fits.
    """
    chosen, used = [], rest
    for image in images:
        used += len(json.dumps(image).encode()) + 1
        if used > limit:
            if not chosen:
                raise UserError(f"plots/report.html: {size(used)} with a single image; {size(limit)} is the limit")
            break
        chosen.append(image)
    return chosen
