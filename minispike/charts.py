"""Charts of results: firing rates, losses, energies, accuracies, times; and the look that all pictures share.

The rules are those of `minispike.viz`, which offers these functions too.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from minispike.errors import MinispikeError, problem
from minispike.ledger import EnergyReport
from minispike.metrics import ModelResult
from minispike.profile import StepProfile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS", "INK", "LINE_STYLES", "WIDTH", "accuracy_bars", "energy_bars", "firing_rate_bars",
    "loss_curves", "new_axes", "new_figure", "numeric_terms", "step_bars", "tidy",
]  # fmt: skip

INK = "#1d2733"
"""Text, spikes, and the first line of a plot."""

COLOURS = (INK, "#c4512d", "#2f7fb5", "#e0a526", "#7b9e3f", "#9a8fb8", "#b9bfc6")
"""From dark to light, so that neighbours differ in greyscale."""

LINE_STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (8, 3)))
"""Of the lines, as the colours are."""

WIDTH = 5.6
"""Of a picture, in inches: a phone shows it at two thirds of its size."""

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_HATCHES = ("", "///", "...", "xxx", "\\\\\\", "++", "")
_KINDS = ("linear", "attention", "norm", "neuron", "softmax", "activation", "other")  # by colour
_POINTS = 400  # of a curve; more than a screen has pixels for would only make the file larger


def new_figure(width: float = WIDTH, height: float = 3.0) -> "Figure":
    """A figure of this size in inches, on its own: pyplot does not know of it.

    Args:
        width, height: in inches; by default 5.6 and 3.

    Raises:
        MinispikeError: matplotlib is not installed.

    Example:
        >>> from minispike.charts import new_figure
        >>> new_figure(width=4.0, height=2.0).get_size_inches().tolist()
        [4.0, 2.0]
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as cause:
        hint = 'pip install "minispike[viz]"'
        raise MinispikeError(problem("pictures", expected="the package matplotlib", got="none", hint=hint)) from cause
    return Figure(figsize=(width, height), layout="constrained")


def new_axes(width: float = WIDTH, height: float = 3.0) -> "Axes":
    """The axes of a new figure of this size in inches.

    Args:
        width, height: as of `new_figure`.

    Raises:
        MinispikeError: matplotlib is not installed.

    Example:
        >>> from minispike.charts import new_axes
        >>> ax = new_axes(width=4.0, height=2.0)
        >>> ax.figure.axes == [ax]
        True
    """
    return new_figure(width, height).subplots()


def tidy(ax: "Axes") -> "Axes":
    """The axes, without a box around them.

    Example:
        >>> from minispike.charts import new_axes, tidy
        >>> ax = tidy(new_axes())
        >>> [side for side, line in ax.spines.items() if line.get_visible()]
        ['left', 'bottom']
    """
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    return ax


def firing_rate_bars(ax: "Axes | None", rates: Mapping[str, float]) -> "Axes":
    """Spikes for each neuron, token and time step, in percent: a bar a layer, from the input at the top.

    Args:
        ax: axes to draw into, or None.
        rates: 0 to 1 by layer, from `minispike.record.Recorder.firing_rates`.

    Example:
        >>> from minispike.charts import firing_rate_bars
        >>> ax = firing_rate_bars(None, {"embedding": 0.5, "blocks.0.attention.q": 0.125})
        >>> [float(bar.get_width()) for bar in ax.patches]  # in percent
        [50.0, 12.5]
    """
    ax = ax or new_axes(WIDTH, 0.9 + 0.19 * max(len(rates), 3))
    names, percent = list(rates), [100 * rate for rate in rates.values()]
    shades = [INK if "attention" not in n else COLOURS[2] for n in names]
    ax.barh(names, percent, color=shades, height=0.7)
    for i, value in enumerate(percent):
        ax.text(value, i, f" {value:.1f}", va="center", fontsize="small", color=INK)
    for i in range(1, len(names)):
        if names[i].split(".")[:2] != names[i - 1].split(".")[:2]:  # a new block
            ax.axhline(i - 0.5, color="#b9bfc6", linewidth=0.8)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.margins(x=0.12)
    ax.tick_params(axis="y", labelsize="small", length=0)
    ax.set_xlabel("firing rate (% of neurons, tokens and time steps)")
    return tidy(ax)


def loss_curves(
    ax: "Axes | None", rows: Sequence[Mapping[str, Any]], terms: Sequence[str] | None = None, title: str = ""
) -> "Axes":
    """Loss terms over training steps, on a logarithmic axis if all are positive.

    Long curves are drawn as means over neighbouring rows. Values that are no finite numbers are left out.

    Args:
        ax: axes to draw into, or None.
        rows: lines of a journal; those with ``step`` and some of the terms are drawn.
        terms: which to draw; None, the default: every numeric field but ``step``.
        title: above the picture; default none.

    Example:
        >>> from minispike.charts import loss_curves
        >>> rows = [{"step": step, "loss": 1.0 / (step + 1), "rate": 1e-3} for step in range(5)]
        >>> ax = loss_curves(None, rows, terms=["loss"])
        >>> len(ax.lines), ax.get_yscale()
        (1, 'log')
    """
    ax = ax or new_axes()
    wanted = numeric_terms(rows) if terms is None else list(terms)
    lowest = math.inf
    for i, term in enumerate(wanted):
        pairs = [(row["step"], row[term]) for row in rows if "step" in row and _is_number(row.get(term))]
        if not pairs:
            continue
        steps, values = _thinned(np.array(pairs, dtype=np.float64))
        lowest = min(lowest, float(values.min()))
        look: dict[str, Any] = {"color": COLOURS[i % 7], "linestyle": LINE_STYLES[i % 7], "linewidth": 1.3}
        if len(steps) <= 12:
            look |= {"marker": _MARKERS[i % 7], "markersize": 4}
        ax.plot(steps, values, label=term, **look)
    if 0 < lowest < math.inf:
        _log_scale(ax)
    ax.set_xlabel("step")
    ax.set_ylabel("loss")
    if ax.lines:
        ax.legend(fontsize="small", frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    if title:
        ax.set_title(title, fontsize="medium", loc="left")
    return tidy(ax)


def numeric_terms(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The fields beside ``step`` that are finite numbers in some row, in order of appearance.

    Example:
        >>> from minispike.charts import numeric_terms
        >>> numeric_terms([{"step": 0, "phase": "stage 1", "loss": 0.7}, {"step": 1, "loss": 0.6, "logits": 0.2}])
        ['loss', 'logits']
    """
    found: dict[str, None] = {}
    for row in (row for row in rows if "step" in row):
        found.update({name: None for name, value in row.items() if name != "step" and _is_number(value)})
    return list(found)


def energy_bars(ax: "Axes | None", report: EnergyReport) -> "Axes":
    """Energy of a sentence by kind of operation, a bar a network, with the ratio to the spiking one.

    Args:
        ax: axes to draw into, or None.
        report: from `minispike.energy.measure_energy`.

    Example:
        >>> from minispike.charts import energy_bars
        >>> from minispike.energy import bert_ledger
        >>> from minispike.ledger import EnergyReport
        >>> from minispike.models.bert import BertConfig
        >>> config = BertConfig(hidden_size=4, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
        >>> small, large = (bert_ledger(config, [length], name=f"{length} tokens") for length in (3, 30))
        >>> ax = energy_bars(None, EnergyReport(small, large, None, sentences=1, tokens=3, convention="mac"))
        >>> [label.get_text() for label in ax.get_yticklabels()], ax.get_xlabel()
        (['3 tokens', '30 tokens'], 'energy of a sentence (mJ, 45 nm)')
    """
    ledgers = report.ledgers
    ax = ax or new_axes(WIDTH, 1.3 + 0.5 * len(ledgers))
    names, start = [ledger.name for ledger in ledgers], np.zeros(len(ledgers))
    for kind, energies in _main_kinds(report).items():
        i = _KINDS.index(kind)
        look: dict[str, Any] = {"color": COLOURS[i], "hatch": _HATCHES[i], "edgecolor": "white"}
        ax.barh(names, energies, left=start, height=0.6, linewidth=0.4, label=kind, **look)
        start += energies
    for i, ledger in enumerate(ledgers):
        ratio = report.student.total_mj / ledger.total_mj
        note = "" if ledger is report.student else f" (student: {ratio:.0%})"
        ax.text(start[i], i, f" {ledger.total_mj:.3g} mJ{note}", va="center", fontsize="small", color=INK)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.6 * float(start.max()))
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("energy of a sentence (mJ, 45 nm)")
    ax.legend(fontsize="small", frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.35, -0.3))
    return tidy(ax)


def _main_kinds(report: EnergyReport) -> dict[str, NDArray[np.float64]]:
    """Energy in mJ by kind, ``[networks]``; kinds below 2 % of every network's are summed as ``other``."""
    sums = [ledger.by_kind() for ledger in report.ledgers]
    totals = np.array([ledger.total_mj for ledger in report.ledgers])
    main: dict[str, NDArray[np.float64]] = {}
    for kind in dict.fromkeys([*_KINDS, *(kind for each in sums for kind in each)]):
        energies = np.array([each.get(kind, 0.0) for each in sums])
        name = kind if kind in _KINDS and (energies > 0.02 * totals).any() else "other"
        main[name] = main.get(name, 0.0) + energies
    rest = main.pop("other")  # always there: the kind of this name is 0
    return main | {"other": rest} if (rest > 0).any() else main


def accuracy_bars(ax: "Axes | None", results: Sequence[ModelResult]) -> "Axes":
    """Accuracy in percent, a line a model, with its 95 % confidence interval.

    Args:
        ax: axes to draw into, or None.
        results: from `minispike.metrics.ModelResult.measure`.

    Example:
        >>> from minispike.charts import accuracy_bars
        >>> from minispike.metrics import ModelResult
        >>> labels, found = [0, 1, 1, 0], {"majority": [0, 0, 0, 0], "BERT": [0, 1, 1, 0]}
        >>> results = [ModelResult.measure(name, labels, answers, 2) for name, answers in found.items()]
        >>> ax = accuracy_bars(None, results)
        >>> [label.get_text() for label in ax.get_yticklabels()], ax.lines[0].get_xdata().tolist()  # in percent
        (['majority', 'BERT'], [50.0, 100.0])
    """
    ax = ax or new_axes(WIDTH, 0.9 + 0.36 * max(len(results), 2))
    names = [result.name for result in results]
    points = 100 * np.array([[r.accuracy, r.low, r.high] for r in results]).reshape(-1, 3)
    errors = np.abs(points[:, 1:] - points[:, :1]).T
    places = np.arange(len(names))
    look: dict[str, Any] = {"fmt": "o", "color": INK, "ecolor": COLOURS[2], "capsize": 4, "markersize": 6}
    ax.errorbar(points[:, 0], places, xerr=errors, **look)
    for i, value in enumerate(points[:, 0]):
        ax.annotate(f"{value:.1f}", (value, i), (0, 6), textcoords="offset points", ha="center", fontsize="small")
    ax.set_yticks(places, names, parse_math=False)
    ax.set_ylim(len(names) - 0.4, -0.7)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", color="#d9dde2", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.set_xlabel("accuracy (%), with 95 % interval")
    return tidy(ax)


def step_bars(ax: "Axes | None", profile: StepProfile) -> "Axes":
    """Time of a training step, a bar an op, forward and then backward, with the floor of its matrix products marked.

    Args:
        ax: axes to draw into, or None.
        profile: from `minispike.profile.profile_step`.

    Example:
        >>> from minispike.charts import step_bars
        >>> from minispike.profile import OpRow, StepProfile
        >>> row = OpRow("Linear", calls=2, forward=0.003, backward=0.005, floor=0.004, kept=0)
        >>> profile = StepProfile((row,), norm=0.001, optimiser=0.001, rest=0.0, multiply_adds=10, peak=0, state=0)
        >>> print(step_bars(None, profile).get_title(loc="left"))
        A step takes 10 ms,
        its matrix products alone 4 ms (40%)
    """
    ops, others = profile.ops, profile.others
    ax = ax or new_axes(WIDTH, 1.4 + 0.24 * (len(ops) + len(others)))
    names = [op.name for op in ops]
    forward, backward = ([1e3 * getattr(op, way) for op in ops] for way in ("forward", "backward"))
    ax.barh(names, forward, height=0.7, color=INK, label="forward")
    look: dict[str, Any] = {"color": COLOURS[3], "hatch": _HATCHES[1], "edgecolor": "white", "linewidth": 0.4}
    ax.barh(names, backward, left=forward, height=0.7, label="backward", **look)
    ax.barh(list(others), [1e3 * seconds for seconds in others.values()], height=0.7, color=COLOURS[6], label="neither")
    products = [(i, 1e3 * op.floor) for i, op in enumerate(ops) if op.floor]
    if products:
        places, floors = zip(*products, strict=True)
        look = {"marker": "|", "markersize": 15, "markeredgewidth": 2, "linestyle": "none"}
        ax.plot(floors, places, color="white", **look | {"markeredgewidth": 5})
        ax.plot(floors, places, color=COLOURS[1], label="floor: its matrix products alone", **look)
    for i, seconds in enumerate([*(op.seconds for op in ops), *others.values()]):
        value = 1e3 * seconds
        ax.text(
            value, i, f"  {value:.3g}" if value >= 1 else f"  {value:.2f}", va="center", fontsize="small", color=INK
        )
    ax.set_ylim(len(ops) + len(others) - 0.4, -0.6)
    ax.margins(x=0.12)
    ax.tick_params(axis="y", labelsize="small", length=0)
    ax.set_xlabel("time in a training step (ms)")
    ax.set_ylabel("op")
    ax.legend(fontsize="small", frameon=False, loc="lower right")
    step, floor, share = 1e3 * profile.seconds, 1e3 * profile.floor, f"{profile.floor / profile.seconds:.0%}"
    title = f"A step takes {_milliseconds(step)},\nits matrix products alone {_milliseconds(floor)} ({share})"
    ax.set_title(title, fontsize="medium", loc="left")
    return tidy(ax)


def _milliseconds(value: float) -> str:
    """A time in three figures or more."""
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"


def _log_scale(ax: "Axes") -> None:
    """A logarithmic axis labelled 0.2, 0.5, 1, ... rather than with powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.set_yscale("log")
    low, high = ax.get_ylim()
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1e3 * low else (1,)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _is_number(value: Any) -> bool:
    """Whether it is a finite number, and not a truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _thinned(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps and values ``[N, 2]`` as at most 400 means over neighbours."""
    size = math.ceil(len(points) / _POINTS)
    means = np.array([points[i : i + size].mean(axis=0) for i in range(0, len(points), size)])
    return means[:, 0], means[:, 1]
