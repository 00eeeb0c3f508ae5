"""Modules: objects that own parameters and other modules, with strict loading of weights."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from minispike.backend import Array
from minispike.errors import CheckpointError, problem
from minispike.tensor import Tensor, get_default_dtype


class Parameter(Tensor):
    """A tensor that is learned. It takes the default type (`minispike.default_dtype`).

    Args:
        value: array, number, or nested list; it is copied.
        dtype: float32 or float64; None: the default type, whatever that of ``value``.

    Example:
        >>> import numpy as np
        >>> from minispike.nn.module import Parameter
        >>> Parameter(np.array([1.0, 2.0]))  # float64 in
        Tensor([1. 2.], float32, requires_grad=True)
    """

    __slots__ = ()

    def __init__(self, value: Any, dtype: Any = None) -> None:
        super().__init__(value, requires_grad=True, dtype=dtype or get_default_dtype())


class Module:
    """A part of a network: its parameters and parts are its attributes, in order of assignment.

    There is no training mode. Dropout happens when a generator is passed to the call, and only then.

    Example:
        >>> from minispike.nn.module import Module, Parameter
        >>> class Line(Module):
        ...     def __init__(self):
        ...         self.slope, self.start = Parameter(2.0), Parameter(1.0)
        ...     def forward(self, x):
        ...         return self.slope * x + self.start
        >>> Line()(3.0).item(), [name for name, _ in Line().named_parameters()]
        (7.0, ['slope', 'start'])
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)  # type: ignore[attr-defined]

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """Every parameter with its dotted name, such as ``blocks.0.attention.q.weight``."""
        for name, value in vars(self).items():
            if isinstance(value, Parameter):
                yield prefix + name, value
            elif isinstance(value, Module):
                yield from value.named_parameters(f"{prefix}{name}.")

    def parameters(self) -> list[Parameter]:
        """Every parameter."""
        return [p for _, p in self.named_parameters()]

    def count_parameters(self) -> int:
        """The number of learned numbers."""
        return sum(p.size for p in self.parameters())

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters():
            parameter.grad = None

    def state_dict(self) -> dict[str, "np.ndarray[Any, Any]"]:
        """A copy of every parameter on the host, by name.

        Example:
            >>> from minispike.nn.layers import LayerNorm
            >>> {name: array.tolist() for name, array in LayerNorm(2).state_dict().items()}
            {'weight': [1.0, 1.0], 'bias': [0.0, 0.0]}
        """
        return {name: p.numpy() for name, p in self.named_parameters()}

    def load_state_dict(self, weights: Mapping[str, Array], *, may_miss: tuple[str, ...] = ()) -> None:
        """Set every parameter from ``weights``, all of them or, on any error, none.

        Args:
            weights: name to array; values are cast to the type of the parameter.
            may_miss: beginnings of names that may be absent, and then keep their values.

        Raises:
            CheckpointError: names are missing or unexpected, or shapes differ; all of them are listed.

        Example:
            >>> import numpy as np
            >>> from minispike.nn.layers import LayerNorm
            >>> LayerNorm(2).load_state_dict({"weight": np.ones(3)})
            Traceback (most recent call last):
                ...
            minispike.errors.CheckpointError: weights of LayerNorm: expected ..., got missing: bias; of another ...
        """
        own = dict(self.named_parameters())
        missing = [n for n in own if n not in weights and not n.startswith(may_miss or ("\0",))]
        unexpected = [n for n in weights if n not in own]
        misshaped = [
            f"{n} {tuple(weights[n].shape)} instead of {p.shape}"
            for n, p in own.items()
            if n in weights and tuple(weights[n].shape) != p.shape
        ]
        faults = [("missing", missing), ("unexpected", unexpected), ("of another shape", misshaped)]
        if any(names for _, names in faults):
            got = "; ".join(f"{kind}: {_shorten(names)}" for kind, names in faults if names)
            raise CheckpointError(
                problem(
                    f"weights of {type(self).__name__}",
                    expected=f"the model's {len(own)} tensors",
                    got=got,
                    hint="the configuration that the weights were saved with",
                )
            )
        for name, parameter in own.items():
            if name in weights:
                parameter.assign(weights[name])


class ModuleList(Module):
    """Modules in a row, named by their position.

    Args:
        modules: the modules; the list itself is not kept.

    Example:
        >>> from minispike.nn.layers import LayerNorm
        >>> from minispike.nn.module import ModuleList
        >>> blocks = ModuleList([LayerNorm(2), LayerNorm(2)])
        >>> len(blocks), [name for name, _ in blocks.named_parameters()]
        (2, ['0.weight', '0.bias', '1.weight', '1.bias'])
    """

    def __init__(self, modules: list[Any]) -> None:
        for i, module in enumerate(modules):
            setattr(self, str(i), module)
        self.length = len(modules)

    def __iter__(self) -> Iterator[Any]:
        return (getattr(self, str(i)) for i in range(self.length))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> Any:
        return getattr(self, str(range(self.length)[i]))


def _shorten(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
