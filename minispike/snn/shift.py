"""Token shift: some channels of every token are those of its neighbours, so that a layer sees words in order."""

from collections.abc import Sequence

from minispike.backend import Array, array_module, copied
from minispike.errors import ShapeError, problem
from minispike.ops import concatenate
from minispike.ops.op import FusedOp
from minispike.tensor import Tensor


class ShiftTokens(FusedOp):
    """Channels moved to the neighbouring tokens; backward moves the gradient back."""

    def __init__(self, channels: int, mask: Array | None) -> None:
        self.channels, self.mask = channels, mask

    def forward(self, x: Array) -> Array:
        c = self.channels
        out = x.copy()
        out[..., 1:, :c] = x[..., :-1, :c]
        out[..., :1, :c] = 0
        out[..., :-1, c : 2 * c] = x[..., 1:, c : 2 * c]
        out[..., -1:, c : 2 * c] = 0
        if self.mask is not None:
            out[..., :-1, c : 2 * c] *= self.mask[:, 1:]  # the last token's next one is padding
        return out

    def backward_arrays(self, grad: Array) -> Sequence[Array | None]:
        c = self.channels
        dx = grad.copy()
        dx[..., :-1, :c] = grad[..., 1:, :c]
        dx[..., -1:, :c] = 0
        right = grad[..., :-1, c : 2 * c]
        dx[..., 1:, c : 2 * c] = right if self.mask is None else right * self.mask[:, 1:]
        dx[..., :1, c : 2 * c] = 0
        return (dx,)


def shift_tokens(x: Tensor, channels: int, mask: Array | None = None) -> Tensor:
    """The first ``channels`` of each token from the token before it, the next ``channels`` from the one after.

    Spikes stay spikes and nothing is computed: a shift is wiring. The token shift of RWKV (Peng et al. 2023,
    arXiv 2305.13048), which SpikeGPT (Zhu et al. 2023, arXiv 2302.13939) uses too, made two-sided.

    Args:
        x: ``[..., B, L, D]``.
        channels: from 0 to D / 2. Beyond the ends there are zeros.
        mask: ``[B, L, 1]``, ones for tokens and zeros for padding, which no token sees as its next. None: no padding.

    Returns:
        ``[..., B, L, D]``.

    Raises:
        ShapeError: more channels than that.

    Example:
        >>> from minispike import Tensor
        >>> from minispike.snn.shift import shift_tokens
        >>> x = Tensor([[[1, 10, 100], [2, 20, 200], [3, 30, 300]]])  # [B, L, D]
        >>> shift_tokens(x, channels=1).numpy().tolist()
        [[[0.0, 20.0, 100.0], [1.0, 30.0, 200.0], [2.0, 0.0, 300.0]]]
    """
    _check_channels(x, channels)
    own = None if mask is None else copied(mask, x.dtype, module=array_module(x.array))
    return ShiftTokens(channels, own)(x)


def shift_tokens_composed(x: Tensor, channels: int, mask: Array | None = None) -> Tensor:
    """`shift_tokens` in elementary ops, which can be differentiated twice; Args and Returns are the same.

    Example:
        >>> import numpy as np
        >>> from minispike import Tensor
        >>> from minispike.snn.shift import shift_tokens_composed
        >>> x, mask = Tensor([[[1, 10], [2, 20], [3, 30]]]), np.array([[[1], [1], [0]]])  # the last token is padding
        >>> shift_tokens_composed(x, 1, mask).numpy().tolist()  # the one before it does not see its 30
        [[[0.0, 20.0], [1.0, 0.0], [2.0, 0.0]]]
    """
    _check_channels(x, channels)
    c = channels
    masked = x if mask is None else x * mask
    gap = Tensor._of(array_module(x.array).zeros_like(x.array[..., :1, :c]))
    before = concatenate([gap, x[..., : x.shape[-2] - 1, :c]], axis=-2)
    after = concatenate([masked[..., 1:, c : 2 * c], gap], axis=-2)
    return concatenate([before, after, x[..., 2 * c :]], axis=-1)


def _check_channels(x: Tensor, channels: int) -> None:
    half = x.shape[-1] // 2
    if not 0 <= channels <= half:
        expected, hint = f"0 to {half}, half of the width", f"channels={half}"
        raise ShapeError(problem("channels", expected=expected, got=str(channels), hint=hint))
