"""The pictures hold the numbers that they are given, and their axes say what these are."""

import math
import subprocess
import sys
from io import BytesIO
from typing import Any

import numpy as np
import pytest

from minispike.energy import Convention, EnergyReport, bert_ledger
from minispike.errors import DataError, MinispikeError
from minispike.metrics import ModelResult
from minispike.models.bert import BertConfig
from minispike.record import membrane_trace
from minispike.snn.neurons import LIFNeuron
from minispike.snn.surrogate import SURROGATES, ATan, Triangle
from minispike.viz import (
    accuracy_bars,
    attention_map,
    energy_bars,
    firing_rate_bars,
    label_tokens,
    loss_curves,
    new_figure,
    numeric_terms,
    spike_raster,
    surrogate_plot,
)
from minispike.viz import membrane_trace as draw_trace

pytest.importorskip("matplotlib")


def report_of(convention: Convention = "mac") -> EnergyReport:
    small, large = (
        bert_ledger(BertConfig(hidden_size=w, num_labels=2), [9], convention, f"width {w}") for w in (384, 768)
    )
    return EnergyReport(small, large, large, 1, 9, convention)


def test_raster_has_a_column_for_each_token_and_step() -> None:
    spikes = np.random.default_rng(0).integers(0, 2, size=(4, 3, 5))
    ax: Any = spike_raster(None, spikes, ["a", "b", "c"], title="layer")
    image = np.asarray(ax.images[0].get_array())
    assert image.shape == (5, 12)
    for t, token, neuron in np.ndindex(spikes.shape):
        assert image[neuron, 4 * token + t] == spikes[t, token, neuron]
    assert list(ax.images[0].get_extent()) == [-0.5, 2.5, -0.5, 4.5]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b", "c"]
    assert "4 time steps" in ax.get_xlabel()
    assert (ax.get_ylabel(), ax.get_title(loc="left")) == ("neuron", "layer")


def test_raster_draws_some_neurons_and_one_column_where_nothing_changes() -> None:
    ax: Any = spike_raster(None, np.ones((1, 3, 100)), neurons=10)
    assert np.asarray(ax.images[0].get_array()).shape == (10, 3)
    assert "same at every time step" in ax.get_xlabel()


def test_tokens_that_cannot_be_drawn_are_numbered() -> None:
    ax: Any = new_figure().subplots()
    assert label_tokens(ax, ["$x$", "好", "z"], 3) is ax
    labels = ax.get_xticklabels()
    assert [label.get_text() for label in labels] == ["$x$", "1", "z"]
    assert not any(label.get_parse_math() for label in labels)
    label_tokens(ax, ["word"] * 100, 100)
    assert len(ax.get_xticks()) <= 48


def test_raster_errors() -> None:
    with pytest.raises(DataError, match=r"spikes: expected \[T, L, N\].*\(4, 2, 3, 5\)"):
        spike_raster(None, np.zeros((4, 2, 3, 5)))
    with pytest.raises(DataError, match="tokens: expected 3 labels, got 2"):
        spike_raster(None, np.zeros((4, 3, 5)), ["a", "b"])


def test_attention_has_a_row_for_each_query() -> None:
    scores = np.array([[0.0, 3.0], [1.0, 2.0]])
    ax: Any = attention_map(None, scores, ["the", "$x$"], title="head 0", label="common spikes")
    assert np.array_equal(ax.images[0].get_array(), scores)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["the", "$x$"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["the", "$x$"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("key of token", "query of token")
    assert ax.images[0].colorbar.ax.get_ylabel() == "common spikes"
    assert ax.images[0].get_clim() == (0.0, 3.0), "the lightest grey is no attention at all"
    assert attention_map(None, scores - 2.0).images[0].get_clim() == (-2.0, 1.0)


def test_attention_errors() -> None:
    with pytest.raises(DataError, match=r"scores: expected \[L, L\].*\(4, 3\)"):
        attention_map(None, np.zeros((4, 3)))
    with pytest.raises(DataError, match=r"scores: expected \[L, L\].*\(2, 3, 3\).*scores\[t, b, h\]"):
        attention_map(None, np.zeros((2, 3, 3)))
    with pytest.raises(DataError, match="tokens: expected 3 labels, got 2"):
        attention_map(None, np.zeros((3, 3)), ["a", "b"])


def test_membrane_goes_up_to_the_potential_and_down_at_the_reset() -> None:
    trace = membrane_trace(np.array([[1.5], [1.5], [0.5]]), LIFNeuron())
    ax: Any = draw_trace(None, trace, title="neuron 0")
    line = next(line for line in ax.lines if line.get_label() == "potential")
    np.testing.assert_array_equal(line.get_xdata(), [0, 1, 1, 2, 2, 3, 3])
    np.testing.assert_array_equal(line.get_ydata(), [0, 0.75, 0.75, 1.125, 0, 0.25, 0.25])
    spike = next(line for line in ax.lines if line.get_label() == "spike")
    np.testing.assert_array_equal(spike.get_xydata(), [[2, 1.125]])
    assert [bar.get_height() for bar in ax.patches] == [1.5, 1.5, 0.5]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time step", "potential")


def test_surrogates() -> None:
    ax: Any = surrogate_plot(None, {name: kind() for name, kind in SURROGATES.items()})
    assert [line.get_label() for line in ax.lines] == list(SURROGATES)
    assert len({line.get_color() for line in ax.lines}) == len(SURROGATES)
    u = np.linspace(-1.5, 1.5, 801)
    steps: Any = surrogate_plot(None, {"atan": ATan(), "triangle": Triangle()}, derivative=False, reach=1.5)
    np.testing.assert_allclose(steps.lines[2].get_ydata(), Triangle().primitive(u), atol=1e-12)
    assert "S(u)" in steps.get_ylabel()


def test_rates_are_drawn_in_percent() -> None:
    ax: Any = firing_rate_bars(None, {"embedding": 0.5, "blocks.0.attention.q": 0.125, "blocks.1.mlp.output": 0.0})
    assert [bar.get_width() for bar in ax.patches] == [50.0, 12.5, 0.0]
    assert "%" in ax.get_xlabel()
    assert ax.yaxis_inverted()


def test_losses() -> None:
    rows: list[dict[str, Any]] = [
        {"step": 0, "loss": 2.0, "name": "x", "good": True},
        {"step": 10, "loss": math.nan, "features": 0.5},
        {"step": 20, "loss": 1.0, "features": 0.25},
        {"total": 3.0},
    ]
    assert numeric_terms(rows) == ["loss", "features"]
    ax: Any = loss_curves(None, rows, title="general")
    assert [line.get_label() for line in ax.lines] == ["loss", "features"]
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[0, 2.0], [20, 1.0]])
    assert ax.get_yscale() == "log"
    assert ax.lines[0].get_linestyle() != ax.lines[1].get_linestyle()
    assert loss_curves(None, [{"step": 1, "loss": -1.0}]).get_yscale() == "linear"
    assert not loss_curves(None, [], ["loss"]).lines


def test_long_curves_are_thinned_to_their_means() -> None:
    ax: Any = loss_curves(None, [{"step": s, "loss": float(s)} for s in range(4000)], ["loss"])
    np.testing.assert_array_equal(ax.lines[0].get_xydata()[:2], [[4.5, 4.5], [14.5, 14.5]])


def test_energies_add_up() -> None:
    report = report_of()
    ax: Any = energy_bars(None, report)
    ends = [0.0, 0.0, 0.0]
    for bar in ax.patches:
        network = round(bar.get_y() + bar.get_height() / 2)
        ends[network] = max(ends[network], bar.get_x() + bar.get_width())
    assert ends[:2] == pytest.approx([report.student.total_mj, report.twin.total_mj])
    assert "mJ" in ax.get_xlabel()
    assert any("student: " in text.get_text() for text in ax.texts)


def test_accuracies() -> None:
    results = [ModelResult("majority", 0.5, 0.4, 0.6), ModelResult("student $", 0.8, 0.75, 0.85, 0.79)]
    ax: Any = accuracy_bars(None, results)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["majority", "student $"]
    ((low, high),) = ax.collections[0].get_segments()[:1]
    assert (low[0], high[0]) == pytest.approx((40, 60))
    assert "95 %" in ax.get_xlabel()


def test_draws_into_the_axes_it_is_given_and_saves() -> None:
    figure = new_figure(6, 9)
    axes = figure.subplots(4, 2).ravel()
    trace = membrane_trace(np.ones((3, 1)), LIFNeuron())
    drawn = [
        spike_raster(axes[0], np.ones((2, 3, 4))), draw_trace(axes[1], trace),
        surrogate_plot(axes[2], {"atan": ATan()}), firing_rate_bars(axes[3], {"a": 0.1}),
        loss_curves(axes[4], [{"step": 0, "loss": 1.0}]), energy_bars(axes[5], report_of()),
        accuracy_bars(axes[6], [ModelResult("a", 0.5, 0.4, 0.6)]), attention_map(axes[7], np.eye(3)),
    ]  # fmt: skip
    assert all(ours is theirs for ours, theirs in zip(drawn, axes, strict=False))
    out = BytesIO()
    figure.savefig(out, format="png", dpi=40)
    assert out.getvalue().startswith(b"\x89PNG")


def test_pyplot_stays_out_of_it() -> None:
    code = (
        "import sys, minispike.viz as v; assert 'matplotlib' not in sys.modules\n"
        "v.firing_rate_bars(None, {'a': .1}); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MinispikeError, match=r'pip install "minispike\[viz\]"'):
        new_figure()
