"""The report of a run: one HTML file that asks the network for nothing.

Pictures are data URIs inside the file, lines as SVG and rasters as PNG; every word that comes from data is
escaped. The file appears whole or not at all.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minispike import viz
from minispike.errors import DataError, problem
from minispike.files import atomic_write
from minispike.ledger import EnergyReport, Ledger
from minispike.metrics import ModelResult
from minispike.page import fold, image, items, page, section, table
from minispike.record import Recording

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ModelResult", "ReportContent", "write_report"]

_BLOCKS = 6  # of which rasters are shown: the file stays small, and the reader awake
_NEURONS = 32
_PARTS = (
    "attention.q", "attention.k", "attention.v", "attention.mix", "attention.output",
    "mlp.hidden", "mlp.output",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class ReportContent:
    """What a report tells, as plain data. What is empty or None is left out.

    Attributes:
        title: of the page.
        config_text: the configuration, as it would be written in a file.
        results: the models and their accuracies, in the order of the table.
        curves: for each phase the lines of its journal; those with ``step`` and numbers are drawn. A field
            ``dev`` of figures becomes ``dev_score`` and the like. Names with ``score``, ``accuracy``, ``f1``
            (0 to 1) get a picture of their own; ``rate``, the learning rate, is not drawn.
        rates: firing rates by layer, 0 to 1.
        sentence: the tokens of the recorded sentence.
        recording: its spikes and currents, from `minispike.record.record_sentence`.
        energy: of student and teacher.
        notes: on the data, such as dropped overlap, truncated and unknown shares; a sentence each.
        timings: seconds by phase.
    """

    title: str
    config_text: str = ""
    results: tuple[ModelResult, ...] = ()
    curves: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)
    sentence: tuple[str, ...] = ()
    recording: Recording | None = None
    energy: EnergyReport | None = None
    notes: tuple[str, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)


def write_report(path: str | Path, content: ReportContent) -> None:
    """Write the report as one self-contained HTML file.

    Args:
        path: where; its folder is made if it is missing.
        content: what it tells.

    Raises:
        DataError: the tokens of the sentence are not as many as those of the recording.
        MinispikeError: matplotlib is not installed.
    """
    sections = (
        _results(content.results),
        section("Data", items(content.notes)) if content.notes else "",
        _energy(content.energy) if content.energy else "",
        _rates(content.rates),
        _curves(content.curves),
        _sentence(content.recording, content.sentence) if content.recording else "",
        _timings(content.timings),
        section("Configuration", fold("Show", f"<pre>{escape(content.config_text)}</pre>"))
        if content.config_text
        else "",
    )
    with atomic_write(path) as file:
        file.write(page(content.title, "\n".join(filter(None, sections))))


def _results(results: Sequence[ModelResult]) -> str:
    if not results:
        return ""
    rows = [
        (
            r.name,
            f"{100 * r.accuracy:.2f}",
            f"{100 * r.low:.1f} to {100 * r.high:.1f}",
            "" if r.macro_f1 is None else f"{100 * r.macro_f1:.2f}",
            r.note,
        )
        for r in results
    ]
    head = ("model", "accuracy (%)", "95 % interval", "macro F1 (%)", "note")
    alt = "Accuracies with their confidence intervals: " + ", ".join(f"{r[0]} {r[1]} %" for r in rows)
    small = "<p>Intervals are Wilson's; macro F1 is the mean F1 of the classes.</p>"
    picture = _vector(viz.accuracy_bars(None, results), alt)
    return section("Results", table(head, rows, "lnnnl") + picture + small)


def _energy(report: EnergyReport) -> str:
    student, count = report.student, f"{report.tokens / report.sentences:.1f}"
    rows = [
        (
            ledger.name,
            f"{ledger.total_mj:.4g}",
            f"{ledger.matrix_mj:.4g}",
            "" if ledger is student else f"{student.total_mj / ledger.total_mj:.1%}",
            "" if ledger is student else f"{student.matrix_mj / ledger.matrix_mj:.1%}",
        )
        for ledger in report.ledgers
    ]
    head = ("network", "all (mJ)", "matrix products (mJ)", "student / this", "of matrix products")
    intro = (
        f"<p>Mean of {report.sentences} sentences of {count} tokens on average, with the spikes that were fired on"
        f" them. <b>{escape(report.assumptions[0])}</b> <i>All</i> includes norms, neurons, softmax and sums.</p>"
    )
    alt = "Energy of a sentence by kind of operation: " + ", ".join(f"{r[0]} {r[1]} mJ" for r in rows)
    folds = [fold("Assumptions", items(report.assumptions)), fold("By kind of operation", _kinds(report))]
    folds += [fold(f"Rows of {ledger.name}", _ledger(ledger)) for ledger in report.ledgers]
    picture = _vector(viz.energy_bars(None, report), alt)
    return section("Energy", intro + table(head, rows, "lnnnn") + picture + "".join(folds))


def _kinds(report: EnergyReport) -> str:
    sums = [ledger.by_kind() for ledger in report.ledgers]
    kinds = dict.fromkeys(kind for each in sums for kind in each)
    rows = [(kind, *(f"{each[kind]:.3g}" if kind in each else "" for each in sums)) for kind in kinds]
    return table(("kind (mJ)", *(ledger.name for ledger in report.ledgers)), rows, "l" + "n" * len(sums))


def _ledger(ledger: Ledger) -> str:
    rows = [
        (
            row.name, row.kind, f"{row.dense_macs:,.0f}", f"{row.macs:,.0f}", f"{row.accumulates:,.0f}",
            f"{row.picojoule * 1e-6:,.4g}",
        )
        for row in ledger.rows
    ]  # fmt: skip
    return table(("layer", "kind", "dense MAC", "MAC", "AC", "energy (uJ)"), rows, "llnnnn")


def _rates(rates: Mapping[str, float]) -> str:
    if not rates:
        return ""
    low, high = min(rates, key=rates.__getitem__), max(rates, key=rates.__getitem__)
    alt = f"Firing rates of {len(rates)} layers, from {rates[low]:.1%} ({low}) to {rates[high]:.1%} ({high})"
    note = "<p>Spikes for each neuron, token and time step; padding does not count.</p>"
    return section("Firing rates", note + _vector(viz.firing_rate_bars(None, rates), alt))


def _curves(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    parts = []
    for phase, lines in curves.items():
        rows = [_flat(line) for line in lines]
        terms = viz.numeric_terms(rows)
        shares = [term for term in terms if any(word in term for word in ("score", "accuracy", "f1"))]
        losses = [term for term in terms if term not in (*shares, "rate")]
        if losses:
            ax = viz.loss_curves(None, rows, losses, title=phase)
            parts.append(_vector(ax, f"Phase {phase}: {', '.join(losses)} over steps"))
        if shares:
            ax = viz.loss_curves(viz.new_figure(height=2.2).subplots(), rows, shares, title=phase)
            ax.set_yscale("linear")
            ax.set_ylabel("share (0 to 1)")
            parts.append(_vector(ax, f"Phase {phase}: {', '.join(shares)} over steps"))
    return section("Training", "".join(parts)) if parts else ""


def _flat(line: Mapping[str, Any]) -> dict[str, Any]:
    """A line of a journal, with ``{"dev": {"score": 0.8}}`` as ``{"dev_score": 0.8}``."""
    flat: dict[str, Any] = {}
    for name, value in line.items():
        flat.update({f"{name}_{k}": v for k, v in value.items()} if isinstance(value, Mapping) else {name: value})
    return flat


def _sentence(recording: Recording, tokens: Sequence[str]) -> str:
    length = next(iter(recording.spikes.values())).shape[1]
    if tokens and len(tokens) != length:
        hint = "the tokens of the recorded sentence"
        raise DataError(problem("sentence", expected=f"{length} tokens", got=str(len(tokens)), hint=hint))
    words = "".join(f"<span><sub>{i}</sub>{escape(token)}</span> " for i, token in enumerate(tokens))
    spiking = f"<p class=tokens>{words}</p>" if tokens else ""
    if "embedding" in recording.spikes:
        ax = viz.new_figure(_raster_width(recording), 2.2).subplots()
        viz.spike_raster(ax, recording.spikes["embedding"], tokens or None, _NEURONS, title="input")
        spiking += _raster(ax.figure, "Input spikes of the sentence")
    blocks = sorted({int(n.split(".")[1]) for n in recording.spikes if n.startswith("blocks.")})
    for i, block in enumerate(_spread(blocks, _BLOCKS)):
        picture = _raster(_block_raster(recording, block, tokens), f"Spikes in block {block}, layer by layer")
        spiking += fold(f"Block {block}", picture, opened=i == 0)
    shown = "" if len(blocks) <= _BLOCKS else f" {_BLOCKS} of the {len(blocks)} blocks are shown."
    intro = (
        f"<p>Dark: a spike. Between two lines stand the {recording.time_steps} time steps of a token. Of each"
        f" layer, {_NEURONS} neurons are drawn; percentages are the firing rates of all.{shown}</p>"
    )
    return section("One sentence in spikes", intro + spiking) + _traces(recording, tokens, blocks)


def _block_raster(recording: Recording, block: int, tokens: Sequence[str]) -> "Figure":
    """The layers of a block, one above the other."""
    names = [name for part in _PARTS if (name := f"blocks.{block}.{part}") in recording.spikes]
    length = recording.spikes[names[0]].shape[1]
    figure = viz.new_figure(_raster_width(recording), 1.05 * len(names) + 0.7)
    panels = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    for ax, name in zip(panels, names, strict=True):
        title = f"{name}: {100 * recording.spikes[name].mean():.1f} %"
        viz.spike_raster(ax, recording.spikes[name], None, _NEURONS, title=title)
        ax.set_xlabel("")
        ax.title.set_fontsize("small")
    viz.label_tokens(panels[-1], tokens or None, length)
    panels[-1].set_xlabel(f"token ({recording.time_steps} time steps each)")
    return figure


def _raster_width(recording: Recording) -> float:
    """Inches that let a time step be seen, within what a page can hold."""
    length = next(iter(recording.spikes.values())).shape[1]
    return max(5.6, min(12.0, 0.045 * recording.time_steps * length + 1.5))


def _traces(recording: Recording, tokens: Sequence[str], blocks: Sequence[int]) -> str:
    """Membrane potentials of three neurons: early, in the middle, late."""
    wanted = [(0, "attention.q"), (len(blocks) // 2, "attention.mix"), (len(blocks) - 1, "mlp.output")]
    names = [f"blocks.{blocks[i]}.{part}" for i, part in wanted if blocks]
    parts = []
    for name in names:
        if name not in recording.neurons or name not in recording.currents:
            continue
        token, cell = _lively(recording.spikes[name])
        trace = recording.trace(name, token, [cell])
        label = f"token {token}" + (f" ({tokens[token]})" if tokens else "")
        ax = viz.membrane_trace(None, trace, title="")
        ax.set_title(f"{name}, neuron {cell}, token {token}", fontsize="medium", loc="left")
        parts.append(_vector(ax, f"Membrane potential of {name}, neuron {cell}, at {label}"))
    if not parts:
        return ""
    note = "<p>Charge, fire at the threshold, reset: one neuron of three layers each, at one token.</p>"
    return section("Membrane potentials", note + "".join(parts))


def _lively(spikes: "np.ndarray[Any, Any]") -> tuple[int, int]:
    """The token and neuron of ``[T, L, N]`` that fires closest to half of the time, of equals in the
    middle."""
    counts = spikes.sum(axis=0)  # [L, N]
    middle = np.abs(np.arange(len(counts)) - len(counts) // 2) / (4 * len(counts))  # [L], less than 1/2
    distance = np.where(counts > 0, np.abs(counts - len(spikes) / 2), len(spikes)) + middle[:, None]
    token, cell = np.unravel_index(int(np.argmin(distance)), counts.shape)
    return int(token), int(cell)


def _spread(items: Sequence[int], most: int) -> list[int]:
    """At most so many of the items, first and last among them, evenly apart."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def _timings(timings: Mapping[str, float]) -> str:
    if not timings:
        return ""
    rows = [(phase, _duration(seconds)) for phase, seconds in timings.items()]
    rows.append(("sum", _duration(sum(timings.values()))))
    return section("Time", table(("phase", "time"), rows, "ln"))


def _duration(seconds: float) -> str:
    """Seconds as ``1 h 02 min``, ``2 min 05 s`` or ``3.4 s``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _vector(ax: "Axes", alt: str) -> str:
    """The figure of the axes as SVG."""
    import matplotlib

    out = io.BytesIO()
    # Without a salt and with a date the same figures would give another file each time.
    with matplotlib.rc_context({"svg.hashsalt": "minispike"}):
        ax.figure.savefig(out, format="svg", metadata={"Date": None})  # type: ignore[union-attr]
    return image("svg+xml", out.getvalue(), alt)


def _raster(figure: Any, alt: str) -> str:
    """A figure of many marks as PNG."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=130, metadata={"Software": None})
    return image("png", out.getvalue(), alt)
