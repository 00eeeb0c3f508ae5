"""What every lesson uses."""

from io import BytesIO
from typing import Any

from IPython.display import Image, display


def show(picture: Any) -> None:
    """Show a picture below the cell.

    Args:
        picture: a figure, or the axes of one.
    """
    figure = getattr(picture, "figure", None) or picture
    content = BytesIO()
    figure.savefig(content, format="png", dpi=90, bbox_inches="tight")
    display(Image(data=content.getvalue(), format="png"))
