"""An op of two functions, whose gradient may be wrong on purpose."""

from collections.abc import Callable, Sequence
from typing import Any

from minispike.ops.op import Op
from minispike.tensor import Tensor

Gradients = Sequence[Any]


class Custom(Op):
    """An op of two functions: values, and gradients from (grad, out, *inputs)."""

    def __init__(self, forward: Callable[..., Any], backward: Callable[..., Gradients]) -> None:
        self.forward_function, self.backward_function = forward, backward

    def forward(self, *arrays: Any) -> Any:
        return self.forward_function(*arrays)

    def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Gradients:
        return self.backward_function(grad, out, *inputs)


def custom(forward: Callable[..., Any], backward: Callable[..., Gradients]) -> Callable[..., Tensor]:
    """The op of these two functions, as a function of tensors."""
    return lambda *inputs: Custom(forward, backward)(*inputs)
