"""What comes into a model: token ids, and the mask that says which of them are tokens and which are padding."""

from typing import Any

from minispike.backend import Array, array_module, asarray
from minispike.errors import ShapeError, problem
from minispike.nn.functional import integer_array
from minispike.tensor import Tensor


def token_ids(value: Any, weight: Tensor, name: str = "input_ids") -> Array:
    """Token numbers as an array where the model's weights lie.

    Args:
        value: integers ``[B, L]``: an array of either backend, or lists of equal length.
        weight: any parameter of the model.
        name: what errors call it; default ``input_ids``.

    Returns:
        ``[B, L]``. Whether the numbers are in the vocabulary is for the embedding to say.

    Raises:
        ShapeError: no integers, not two axes, or no token in a row.

    Example:
        >>> import numpy as np
        >>> from minispike import Tensor
        >>> from minispike.models.inputs import token_ids
        >>> weight = Tensor(np.ones((10, 4)))  # of an embedding
        >>> token_ids([[2, 5, 3], [2, 7, 3]], weight).shape
        (2, 3)
        >>> token_ids([2, 5, 3], weight)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        minispike.errors.ShapeError: input_ids: expected integers [B, L], L >= 1, got shape (3,); try ...
    """
    ids = integer_array(value, weight, name)
    if ids.ndim != 2 or ids.shape[1] == 0:
        hint = f"{name}[None] for a single sentence" if ids.ndim == 1 else "rows of at least one token"
        raise ShapeError(problem(name, expected="integers [B, L], L >= 1", got=f"shape {ids.shape}", hint=hint))
    return ids


def token_mask(value: Any, ids: Array, name: str = "attention_mask") -> Array | None:
    """The mask as booleans ``[B, L]`` beside the ids; None stays None.

    Args:
        value: booleans, or numbers 0 and 1 as Hugging Face's tokenizers give them, of the shape of ``ids``: an array
            of either backend, or lists.
        ids: ``[B, L]``.
        name: what errors call it; default ``attention_mask``.

    Raises:
        ShapeError: another shape, or other values.

    Example:
        >>> import numpy as np
        >>> from minispike.models.inputs import token_mask
        >>> ids = np.array([[2, 5, 3], [2, 3, 0]])
        >>> token_mask([[1, 1, 1], [1, 1, 0]], ids).tolist()
        [[True, True, True], [True, True, False]]
    """
    if value is None:
        return None
    try:
        mask = asarray(value, module=array_module(ids))
        got = f"{mask.dtype} of shape {mask.shape}"
    except (TypeError, ValueError) as cause:  # rows of unequal length; what CuPy does not take
        mask, got = None, str(cause)
    if mask is not None and mask.dtype.kind in "iuf" and mask.shape == ids.shape:
        if bool(((mask == 0) | (mask == 1)).all()):
            return mask == 1
        got = "other values"
    if mask is None or mask.dtype.kind != "b" or mask.shape != ids.shape:
        expected, hint = f"booleans, or 0 and 1, of shape {ids.shape}", "input_ids != pad_id"
        raise ShapeError(problem(name, expected=expected, got=got, hint=hint))
    return mask
