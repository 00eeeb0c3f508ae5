"""What every lesson uses."""

import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

from IPython.display import Image, display

MODELS = Path(__file__).parent / "models"
"""A small BERT and a student of its, which ``python -m tutorials.make_models`` trains; see the README there."""


def show(picture: Any) -> None:
    """Show a picture below the cell.

    Args:
        picture: a figure, or the axes of one.
    """
    figure = getattr(picture, "figure", None) or picture
    content = BytesIO()
    figure.savefig(content, format="png", dpi=90, bbox_inches="tight")
    display(Image(data=content.getvalue(), format="png"))


def fastest(work: Callable[[], Any], tries: int = 5) -> float:
    """Seconds of a call, the best of some tries: what disturbs a measurement only ever makes it longer."""
    taken = []
    for _ in range(tries):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return min(taken)
