"""minispike: spiking language models, small enough to read.

>>> import minispike
>>> x = minispike.Tensor([1.0, 2.0], requires_grad=True)
>>> (x * x).sum().backward()
>>> x.grad.numpy().tolist()
[2.0, 4.0]
"""

from minispike import ops
from minispike.backend import use
from minispike.errors import GradientError, MinispikeError
from minispike.gradcheck import check_grads
from minispike.smooth import smooth_spikes
from minispike.tensor import Tensor, default_dtype, grad, no_grad

__all__ = [
    "GradientError", "MinispikeError", "Tensor", "check_grads", "default_dtype", "grad", "no_grad", "ops",
    "smooth_spikes", "use",
]  # fmt: skip

__version__ = "0.1.0"
