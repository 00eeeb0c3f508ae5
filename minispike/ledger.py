"""What a sentence costs: the rows, sums and assumptions of the ledger that `minispike.energy` fills.

    E = 4.6 pJ x MAC + 0.9 pJ x AC

A multiply-accumulate (MAC) multiplies an activation by a weight and adds the product up; an accumulate (AC)
only adds. Where activations are spikes, a weight matrix needs no multiplication: every spike adds a row of
weights.

    linear       AC = sum of the inputs over tokens and time steps x outputs       dense: MAC = L x in x out
    (q k^T) v    AC = (spikes of q + spikes of v) x L    where L <= d              dense: MAC = 2 L^2 D
    q (k^T v)    AC = (spikes of k + spikes of q) x d    where L > d

for L tokens, width D, and heads of width d. A residual sum is a count of spikes, 0, 1, 2, ...; a count of c
is charged as c accumulates. The spikes are those that the network really fired on the sentences. In attention
both factors are spikes; each spike of one of them is charged its whole fan-out, whether or not it meets a
spike of the other, so that is an upper bound. What is not a product of matrices (norms, neurons, sums) is
charged as in `COSTS`.

Sources: Horowitz, "Computing's energy problem", ISSCC 2014, for 32-bit floats at 45 nm: 0.9 pJ an addition,
3.7 pJ a multiplication; Lv et al. 2023, arXiv 2308.15122, for the comparison. The energy of memory is in
neither.
"""

from dataclasses import dataclass
from typing import Any, Literal

__all__ = [
    "AC_PICOJOULE",
    "ASSUMPTIONS",
    "COSTS",
    "FORMULAS",
    "MAC_PICOJOULE",
    "MATRIX_KINDS",
    "Convention",
    "Cost",
    "EnergyReport",
    "EnergyRow",
    "Ledger",
]  # fmt: skip

MAC_PICOJOULE = 4.6
"""Energy of a 32-bit multiply-accumulate at 45 nm, in pJ (Horowitz 2014)."""

AC_PICOJOULE = 0.9
"""Energy of a 32-bit addition at 45 nm, in pJ (Horowitz 2014)."""

Convention = Literal["mac", "paper"]
"""``mac`` charges 4.6 pJ a MAC and 0.9 pJ an AC. ``paper`` charges them per FLOP, and counts two FLOP for
each, as the SpikeBERT paper does (4.6 pJ x FLOP, and SOP = firing rate x T x FLOP): all energies double, no
ratio changes."""

MATRIX_KINDS = ("linear", "attention", "head")
"""The kinds of rows that are products of matrices: what published comparisons count."""


@dataclass(frozen=True)
class Cost:
    """What an operation that is no product of matrices is charged for each element, and why so.

    Attributes:
        macs: multiply-accumulates.
        accumulates: accumulates.
        why: in a sentence.

    Example:
        >>> from minispike.ledger import COSTS
        >>> COSTS["norm"].macs, COSTS["norm"].accumulates  # for each number that is normalised
        (3, 2)
    """

    macs: int
    accumulates: int
    why: str


COSTS: dict[str, Cost] = {
    "embedding": Cost(0, 2, "SpikeBERT: position added, threshold compared; BERT: position, segment added"),
    "norm": Cost(3, 2, "an AC each for mean and centring, a MAC each for variance, scaling, gain and shift"),
    "neuron": Cost(1, 1, "a MAC for leak and charge (1/tau is a choice of units), an AC for the threshold"),
    "residual": Cost(0, 1, "an addition"),
    "pool": Cost(0, 1, "an addition to the mean over tokens"),
    "softmax": Cost(2, 3, "an AC each for maximum, difference, sum, a MAC each for exponential, division"),
    "activation": Cost(2, 0, "GELU and tanh: a MAC each for interpolating in a table and for a product"),
}
"""By kind of row; the elements are those that are computed: a layer norm of SpikeBERT has T times those of
BERT."""

FORMULAS: dict[Convention, str] = {
    "mac": f"E = {MAC_PICOJOULE} pJ x MAC + {AC_PICOJOULE} pJ x AC, for 32-bit floats at 45 nm (Horowitz 2014).",
    "paper": f"E = 2 x ({MAC_PICOJOULE} pJ x MAC + {AC_PICOJOULE} pJ x AC): the figures for 32-bit floats at 45 nm"
    " (Horowitz 2014), charged for each of two FLOP an operation, as the SpikeBERT paper does.",
}
"""What is charged under each convention."""

ASSUMPTIONS: tuple[str, ...] = (
    "Memory, control and data movement are left out on both sides.",
    "Spikes are those measured on these sentences. Each sentence is alone and unpadded, for all networks.",
    "Linear layers: each input spike adds a row of weights; a residual count of c is c accumulates."
    " Biases are free: a sum starts from them.",
    "Spiking attention is counted in the order that is executed, (q k^T) v up to L = D / heads tokens and"
    " q (k^T v) beyond, with the whole fan-out of the spikes of one factor.",
    "The input spikes are the same at every time step: the linear maps and norms of q, k and v in the first"
    " block are computed, and charged, once instead of T times.",
    "The classifier meets real numbers, at each of the T time steps: multiply-accumulates.",
    "What only training needs (the projections that are compared to the teacher) is left out.",
    *(f"{kind}, for each element: {c.macs} MAC + {c.accumulates} AC: {c.why}." for kind, c in COSTS.items()),
)
"""What else the figures rest on, in sentences."""


@dataclass(frozen=True)
class EnergyRow:
    """A line of a ledger, mean of a sentence.

    Attributes:
        name: of the layer.
        kind: of `MATRIX_KINDS` or `COSTS`.
        dense_macs: multiply-accumulates of the same layer in an ordinary network, where it is a product of
            matrices.
        accumulates, macs: what is executed.
        picojoule: the energy of the two, in pJ.

    Example:
        >>> from minispike.ledger import AC_PICOJOULE, EnergyRow
        >>> EnergyRow("fc", "linear", dense_macs=100, accumulates=10, macs=0, picojoule=10 * AC_PICOJOULE).picojoule
        9.0
    """

    name: str
    kind: str
    dense_macs: float
    accumulates: float
    macs: float
    picojoule: float


@dataclass(frozen=True)
class Ledger:
    """The rows of one network, and their sums for a mean sentence.

    Attributes:
        name: of the network.
        rows: in the order of the network.

    Example:
        >>> from minispike.ledger import EnergyRow, Ledger
        >>> spiking = EnergyRow("fc", "linear", dense_macs=1000, accumulates=200, macs=0, picojoule=180.0)
        >>> norm = EnergyRow("norm", "norm", dense_macs=0, accumulates=20, macs=30, picojoule=156.0)
        >>> ledger = Ledger("a layer", (spiking, norm))
        >>> round(ledger.total_mj * 1e9), round(ledger.matrix_mj * 1e9)  # in pJ: everything, and matrices alone
        (336, 180)
    """

    name: str
    rows: tuple[EnergyRow, ...]

    @property
    def total_mj(self) -> float:
        """Energy of everything, in mJ."""
        return sum(row.picojoule for row in self.rows) * 1e-9

    @property
    def matrix_mj(self) -> float:
        """Energy of the products of matrices alone, in mJ."""
        return sum(row.picojoule for row in self.rows if row.kind in MATRIX_KINDS) * 1e-9

    @property
    def dense_macs(self) -> float:
        """Multiply-accumulates of an ordinary network of this shape, in products of matrices."""
        return sum(row.dense_macs for row in self.rows)

    @property
    def macs(self) -> float:
        """Multiply-accumulates executed."""
        return sum(row.macs for row in self.rows)

    @property
    def accumulates(self) -> float:
        """Accumulates executed."""
        return sum(row.accumulates for row in self.rows)

    def by_kind(self) -> dict[str, float]:
        """Energy in mJ by kind of row, in the order of the network.

        Example:
            >>> from minispike.ledger import EnergyRow, Ledger
            >>> rows = [EnergyRow(name, "linear", 100, accumulates=100, macs=0, picojoule=90.0) for name in ("q", "k")]
            >>> ledger = Ledger("all", (*rows, EnergyRow("norm", "norm", 0, accumulates=20, macs=30, picojoule=156.0)))
            >>> {kind: round(energy * 1e9) for kind, energy in ledger.by_kind().items()}  # in pJ
            {'linear': 180, 'norm': 156}
        """
        sums: dict[str, float] = {}
        for row in self.rows:
            sums[row.kind] = sums.get(row.kind, 0.0) + row.picojoule * 1e-9
        return sums

    def to_mapping(self) -> dict[str, Any]:
        """Rows and sums as plain data."""
        sums = {"total_mj": self.total_mj, "matrix_mj": self.matrix_mj, "dense_macs": self.dense_macs}
        executed = {"macs": self.macs, "accumulates": self.accumulates}
        rows = [dict(vars(row)) for row in self.rows]
        return {"name": self.name, **sums, **executed, "by_kind_mj": self.by_kind(), "rows": rows}


@dataclass(frozen=True)
class EnergyReport:
    """A SpikeBERT next to a BERT of its shape and, where known, its teacher; figures are means of a sentence.

    Attributes:
        student: the SpikeBERT, with measured spikes.
        twin: a BERT of the same depth, width, heads and feed-forward width.
        teacher: the BERT it learned from, or None.
        sentences, tokens: how many were measured.
        convention: see `Convention`.

    Example:
        >>> from minispike.ledger import EnergyReport, EnergyRow, Ledger
        >>> student = Ledger("student", (EnergyRow("fc", "linear", 1000, accumulates=500, macs=0, picojoule=450.0),))
        >>> twin = Ledger("twin", (EnergyRow("fc", "linear", 1000, accumulates=0, macs=1000, picojoule=4600.0),))
        >>> report = EnergyReport(student, twin, teacher=None, sentences=1, tokens=5, convention="mac")
        >>> round(report.ratio, 4)  # half as many operations, and 0.9 pJ instead of 4.6 for each
        0.0978
    """

    student: Ledger
    twin: Ledger
    teacher: Ledger | None
    sentences: int
    tokens: int
    convention: Convention

    @property
    def rows(self) -> tuple[EnergyRow, ...]:
        """The rows of the student."""
        return self.student.rows

    @property
    def ledgers(self) -> tuple[Ledger, ...]:
        """Student, twin and, where known, teacher."""
        return (self.student, self.twin) if self.teacher is None else (self.student, self.twin, self.teacher)

    @property
    def ratio(self) -> float:
        """Energy of the student in units of that of its twin, everything counted."""
        return self.student.total_mj / self.twin.total_mj

    @property
    def matrix_ratio(self) -> float:
        """The same for the products of matrices alone, the figure that is usually published."""
        return self.student.matrix_mj / self.twin.matrix_mj

    @property
    def assumptions(self) -> tuple[str, ...]:
        """Everything that the figures rest on: the formula, then the rest."""
        return (FORMULAS[self.convention], *ASSUMPTIONS)

    def to_mapping(self) -> dict[str, Any]:
        """The report as plain data, for JSON."""
        return {
            "convention": self.convention,
            "sentences": self.sentences,
            "tokens": self.tokens,
            "ratio": self.ratio,
            "matrix_ratio": self.matrix_ratio,
            "assumptions": list(self.assumptions),
            "student": self.student.to_mapping(),
            "twin": self.twin.to_mapping(),
            "teacher": None if self.teacher is None else self.teacher.to_mapping(),
        }

    def to_text(self) -> str:
        """The report as a table, with formula and assumptions.

        Example:
            >>> from minispike.ledger import EnergyReport, EnergyRow, Ledger
            >>> ledger = Ledger("student", (EnergyRow("fc", "linear", 1000, accumulates=500, macs=0, picojoule=450.0),))
            >>> report = EnergyReport(ledger, ledger, teacher=None, sentences=2, tokens=11, convention="mac")
            >>> print(report.to_text().splitlines()[0])
            Energy of a sentence (mean of 2, 5.5 tokens; convention 'mac')
        """
        measured = f"mean of {self.sentences}, {self.tokens / self.sentences:.1f} tokens"
        head = f"Energy of a sentence ({measured}; convention {self.convention!r})"
        lines = [head, "", f"{'':36}{'total':>12}{'matrices':>14}{'student / this':>16}{'matrices only':>15}"]
        for ledger in self.ledgers:
            shares = self.student.total_mj / ledger.total_mj, self.student.matrix_mj / ledger.matrix_mj
            energies = f"{ledger.total_mj:>9.4g} mJ{ledger.matrix_mj:>11.4g} mJ"
            lines.append(f"{ledger.name:36}{energies}{shares[0]:>16.1%}{shares[1]:>15.1%}")
        lines += ["", f"{self.student.name:36}{'kind':12}{'dense MAC':>16}{'MAC':>14}{'AC':>16}{'uJ':>12}"]
        for row in self.rows:
            counts = f"{row.dense_macs:>16,.0f}{row.macs:>14,.0f}{row.accumulates:>16,.0f}"
            lines.append(f"{row.name:36}{row.kind:12}{counts}{row.picojoule * 1e-6:>12,.4g}")
        return "\n".join([*lines, "", *(f"* {line}" for line in self.assumptions), ""])
