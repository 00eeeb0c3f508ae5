"""Comparisons, element by element: ``==``, ``!=``, ``<``, ``<=``, ``>``, ``>=``.

What comes out are arrays of booleans of the backend, not tensors: a comparison has no gradient. They are what
`minispike.ops.where` and ``tensor[...]`` take.
"""

import operator
from collections.abc import Callable
from typing import Any

from minispike.backend import Array
from minispike.errors import ShapeError, problem
from minispike.ops.op import as_tensors
from minispike.tensor import Tensor, TensorLike


def comparison(symbol: str, function: Callable[[Any, Any], Any]) -> Callable[[Tensor, TensorLike], Array]:
    """The method of `Tensor` for an operator; numbers take the type of the tensor, as in arithmetic.

    Args:
        symbol: what errors call the operator.
        function: of two arrays, such as `operator.lt`.

    Returns:
        A function of a tensor and a second operand that gives an array of booleans.

    Example:
        >>> import operator
        >>> from minispike import Tensor
        >>> from minispike.ops.comparison import comparison
        >>> comparison("<", operator.lt)(Tensor([1.0, 2.0]), 1.5).tolist()
        [True, False]
    """

    def compare(a: Tensor, b: TensorLike) -> Array:
        try:
            left, right = as_tensors((a, b))
        except ShapeError:  # no numbers: Python says what it says of things that cannot be compared
            return NotImplemented
        try:
            return function(left.array, right.array)
        except ValueError as cause:
            got, hint = f"{left.shape} and {right.shape}", "reshape, or `is` for the same tensor"
            raise ShapeError(problem(symbol, expected="shapes that fit together", got=got, hint=hint)) from cause

    return compare


COMPARISONS = {
    "__eq__": comparison("==", operator.eq),
    "__ne__": comparison("!=", operator.ne),
    "__lt__": comparison("<", operator.lt),
    "__le__": comparison("<=", operator.le),
    "__gt__": comparison(">", operator.gt),
    "__ge__": comparison(">=", operator.ge),
}
"""By the name that Python calls them by."""
