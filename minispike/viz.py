"""Pictures of spikes, attention, potentials, losses, energies, accuracies and times.

What draws does so into the axes it is given, or into a new figure, and returns the axes;
``ax.figure.savefig`` saves it. No function touches pyplot or a display, so they work in a script, a test or a
notebook alike. Colours differ in lightness too, and lines in style, bars in hatching: nothing is lost in
greyscale.

Needs matplotlib: ``pip install "minispike[viz]"``. It is imported when the first picture is drawn.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from minispike.backend import Array, to_numpy
from minispike.charts import (
    COLOURS,
    INK,
    LINE_STYLES,
    WIDTH,
    accuracy_bars,
    energy_bars,
    firing_rate_bars,
    loss_curves,
    new_axes,
    new_figure,
    numeric_terms,
    step_bars,
    tidy,
)
from minispike.errors import DataError, problem
from minispike.record import MembraneTrace
from minispike.snn.surrogate import Surrogate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "accuracy_bars", "attention_map", "energy_bars", "firing_rate_bars", "label_tokens", "loss_curves",
    "membrane_trace", "new_figure", "numeric_terms", "spike_raster", "step_bars", "surrogate_plot",
]  # fmt: skip


def spike_raster(
    ax: "Axes | None", spikes: Array, tokens: Sequence[str] | None = None, neurons: int = 64, title: str = ""
) -> "Axes":
    """A mark for each spike: tokens and, within a token, time steps to the right, neurons upwards.

    The axis of tokens is in tokens, so that time step t of T at token i lies at ``i - 1/2 + (t - 1/2) / T``.

    Args:
        ax: axes to draw into, or None.
        spikes: ``[T, L, N]`` of one sentence, or ``[1, L, N]`` for an input that stays the same. A count
            above 1 is darker the larger it is.
        tokens: L labels; None, or those that the font lacks: positions.
        neurons: draw at most the first so many, by default 64.
        title: above the picture; default none.

    Raises:
        DataError: the array has not three axes, or the labels are not as many as the tokens.

    Example:
        >>> import numpy as np
        >>> from minispike.viz import spike_raster
        >>> spikes = np.zeros((4, 2, 3))  # four time steps, two tokens, three neurons
        >>> spikes[0, 1, 2] = 1.0  # the third neuron fires in the first step of the second token
        >>> ax = spike_raster(None, spikes, tokens=["so", "dull"])
        >>> ax.images[0].get_array().astype(int).tolist()  # a row a neuron from below, a column a time step
        [[0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0, 0]]
        >>> [label.get_text() for label in ax.get_xticklabels()], ax.get_xlabel()
        (['so', 'dull'], 'token (4 time steps each)')
    """
    grid = _sentence(spikes, tokens)
    steps, length, width = grid.shape
    ax = ax or new_axes(max(4.0, min(12.0, 0.045 * steps * length + 1.5)), 2.6)
    shown = min(width, neurons)
    image = grid[:, :, :shown].transpose(2, 1, 0).reshape(shown, length * steps)  # column = token, then step
    edges = (-0.5, length - 0.5, -0.5, shown - 0.5)
    ax.imshow(
        image, cmap="Greys", vmin=0, vmax=max(1.0, float(image.max())), aspect="auto",
        interpolation="nearest", origin="lower", extent=edges,
    )  # fmt: skip
    for i in range(1, length):
        ax.axvline(i - 0.5, color=COLOURS[2], linewidth=0.6, alpha=0.7)
    ax.set_yticks([0, shown - 1] if shown > 1 else [0])
    ax.set_ylabel("neuron")
    label_tokens(ax, tokens, length)
    ax.set_xlabel("token (the same at every time step)" if steps == 1 else f"token ({steps} time steps each)")
    if title:
        ax.set_title(title, fontsize="medium", loc="left")
    return ax


def label_tokens(ax: "Axes", tokens: Sequence[str] | None, length: int) -> "Axes":
    """Put tokens under the columns of a raster, or their positions where they are too many or not in the
    font.

    Args:
        ax: whose columns 0, 1, ... they are.
        tokens: as many as ``length``, or None: positions.
        length: L; beyond 48, every second, third, ... position is told.

    Returns:
        ``ax``.

    Example:
        >>> from minispike.charts import new_axes
        >>> from minispike.viz import label_tokens
        >>> ax = label_tokens(new_axes(), ["so", "dull", "好"], length=3)
        >>> [label.get_text() for label in ax.get_xticklabels()]  # the font has no such character: its position
        ['so', 'dull', '2']
    """
    names = [str(i) for i in range(length)]
    every = max(1, math.ceil(length / 48))
    if tokens is not None and every == 1:
        names = [t if _drawable(t) else str(i) for i, t in enumerate(tokens)]
    places = list(range(0, length, every))
    ax.set_xticks(places)
    inches = ax.get_window_extent().width / ax.figure.dpi
    upright = sum(len(names[i]) + 2 for i in places) > 13 * inches
    # A token may hold dollar signs, which are not meant as formulas.
    ax.set_xticklabels([names[i] for i in places], rotation=90 if upright else 0, parse_math=False)
    ax.tick_params(axis="x", labelsize="small", length=0)
    return ax


def attention_map(
    ax: "Axes | None", scores: Array, tokens: Sequence[str] | None = None, title: str = "", label: str = "score"
) -> "Axes":
    """Which token looks at which: a row for each query, a column for each key, darker where the score is higher.

    Args:
        ax: axes to draw into, or None.
        scores: ``[L, L]`` of one head at one time step, or a mean over them: the weights of a softmax, or the spikes
            that a query and a key have in common. The lightest grey is 0, or the lowest score below it.
        tokens: L labels; None, or those that the font lacks: positions.
        title: above the picture; default none.
        label: of the scale beside it; default ``score``.

    Raises:
        DataError: the scores are no square, or the labels are not as many as the tokens.

    Example:
        >>> import numpy as np
        >>> from minispike.viz import attention_map
        >>> ax = attention_map(None, np.array([[3.0, 0.0], [1.0, 2.0]]), tokens=["so", "dull"])
        >>> ax.get_ylabel(), ax.get_xlabel()
        ('query of token', 'key of token')
        >>> ax.images[0].get_array()[1].tolist()  # how the query of "dull" scores both keys
        [1.0, 2.0]
    """
    grid = np.asarray(to_numpy(scores), dtype=np.float64)
    if grid.ndim != 2 or len(set(grid.shape)) != 1:
        hint = "the scores of one head at one time step, scores[t, b, h]"
        raise DataError(problem("scores", expected="[L, L]", got=f"shape {grid.shape}", hint=hint))
    _check_labels(tokens, length := len(grid))
    ax = ax or new_axes(4.2, 3.6)
    image = ax.imshow(grid, cmap="Greys", vmin=min(0.0, float(grid.min(initial=0.0))), interpolation="nearest")
    label_tokens(ax, tokens, length)
    ax.set_yticks(ax.get_xticks(), [tick.get_text() for tick in ax.get_xticklabels()], parse_math=False)
    ax.tick_params(axis="y", labelsize="small", length=0)
    ax.set_xlabel("key of token")
    ax.set_ylabel("query of token")
    scale = ax.figure.colorbar(image, ax=ax, label=label, fraction=0.05)
    scale.outline.set_visible(False)
    if title:
        ax.set_title(title, fontsize="medium", loc="left")
    return ax


def membrane_trace(ax: "Axes | None", trace: MembraneTrace, cell: int = 0, title: str = "") -> "Axes":
    """The potential of one neuron over time: charge, fire where it meets the threshold, reset.

    Args:
        ax: axes to draw into, or None.
        trace: from `minispike.record.membrane_trace`.
        cell: which of its N neurons; default the first.
        title: above the picture; default none.

    Example:
        >>> import numpy as np
        >>> from minispike.record import membrane_trace as recompute
        >>> from minispike.snn.neurons import LIFNeuron
        >>> from minispike.viz import membrane_trace
        >>> trace = recompute(np.array([[1.5]]), LIFNeuron(tau=2.0, threshold=1.0), time_steps=3)
        >>> ax = membrane_trace(None, trace)
        >>> triangles = next(line for line in ax.lines if line.get_label() == "spike")
        >>> triangles.get_xdata().tolist(), triangles.get_ydata().tolist()  # when it fired, and at which potential
        ([2], [1.125])
    """
    ax = ax or new_axes(WIDTH, 2.6)
    before, after, fired = trace.before[:, cell], trace.after[:, cell], trace.spikes[:, cell] > 0
    steps = np.arange(1, len(before) + 1)
    ax.bar(steps, trace.current[:, cell], width=0.5, color="#d9dde2", label="input current", zorder=1)
    line = np.empty(2 * len(steps) + 1)
    line[0], line[1::2], line[2::2] = trace.neuron.resting, before, after
    ax.plot(np.repeat(np.arange(len(steps) + 1), 2)[1:], line, color=INK, label="potential", zorder=3)
    ax.plot(steps[~fired], before[~fired], "o", color=INK, markerfacecolor="white", zorder=4)
    spike = ax.plot(steps[fired], before[fired], "^", color=COLOURS[1], markersize=9, zorder=5)[0]
    if fired.any():
        spike.set_label("spike")
    ax.axhline(trace.neuron.threshold, color=COLOURS[1], linestyle="--", linewidth=1, label="threshold")
    ax.axhline(0, color="#8a939d", linewidth=0.6, zorder=2)
    ax.set_xticks(range(len(steps) + 1))
    ax.set_xlabel("time step")
    ax.set_ylabel("potential")
    ax.legend(fontsize="small", frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    if title:
        ax.set_title(title, fontsize="medium", loc="left")
    return tidy(ax)


def surrogate_plot(
    ax: "Axes | None", surrogates: Mapping[str, Surrogate], derivative: bool = True, reach: float = 2.0
) -> "Axes":
    """What stands in for the derivative of a spike, over the potential above threshold.

    Args:
        ax: axes to draw into, or None.
        surrogates: by the name in the legend.
        derivative: draw the derivatives, as by default; False: the smooth steps, with the true step.
        reach: draw from -reach to reach, default 2, in the unit of the potential.

    Example:
        >>> from minispike.snn.surrogate import ATan
        >>> from minispike.viz import surrogate_plot
        >>> ax = surrogate_plot(None, {"atan": ATan(), "narrower": ATan(alpha=4.0)})
        >>> [float(line.get_ydata().max()) for line in ax.lines]  # at u = 0: alpha / 2
        [1.0, 2.0]
    """
    ax = ax or new_axes(5.6, 3.2)
    u = np.linspace(-reach, reach, 801)
    if not derivative:
        ax.step([-reach, 0, reach], [0, 1, 1], where="post", color="#8a939d", linewidth=3, label="spike")
    for i, (name, surrogate) in enumerate(surrogates.items()):
        values = surrogate.derivative(u.copy()) if derivative else surrogate.primitive(u.copy())
        ax.plot(u, values, color=COLOURS[i % 7], linestyle=LINE_STYLES[i % 7], label=name)
    ax.set_xlabel("potential above threshold u")
    ax.set_ylabel("surrogate derivative dS/du" if derivative else "smooth step S(u)")
    ax.legend(fontsize="small", frameon=False)
    return tidy(ax)


def _sentence(spikes: Array, tokens: Sequence[str] | None) -> NDArray[np.float64]:
    """Spikes on the host, ``[T, L, N]``, once they fit the labels."""
    grid = np.asarray(to_numpy(spikes), dtype=np.float64)
    if grid.ndim != 3:
        hint = "the spikes of one sentence, spikes[:, 0]"
        raise DataError(problem("spikes", expected="[T, L, N]", got=f"shape {grid.shape}", hint=hint))
    _check_labels(tokens, grid.shape[1])
    return grid


def _check_labels(tokens: Sequence[str] | None, length: int) -> None:
    """A label for each token, or none at all."""
    if tokens is not None and len(tokens) != length:
        got, hint = f"{len(tokens)}", "the tokens of the recorded sentence"
        raise DataError(problem("tokens", expected=f"{length} labels", got=got, hint=hint))


def _drawable(text: str) -> bool:
    """Whether the font of the pictures has every character."""
    from matplotlib.font_manager import findfont, get_font

    known = get_font(findfont("DejaVu Sans")).get_charmap()
    return all(ord(character) in known for character in text)
