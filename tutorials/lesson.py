"""What every lesson uses."""

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
