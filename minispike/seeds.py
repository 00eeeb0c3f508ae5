"""One configuration run with several seeds: which of the differences between models are more than luck.

    seeds.json    the seeds, the configuration, and the version that began the runs
    seed-0/ ...   a run folder for each seed
    summary.json  in the end: every figure of every seed, with mean and standard deviation

is what the folder of such runs holds.
"""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from minispike.config import RunConfig
from minispike.distill.teacher import TeacherSource
from minispike.errors import ConfigError, RunFolderError, problem
from minispike.files import atomic_write
from minispike.pipeline import distill
from minispike.records import read_record
from minispike.runfolder import CONFIG, Facts, check_free, run_config
from minispike.settings import describe, to_mapping
from minispike.version import __version__

PLAN, SUMMARY = "seeds.json", "summary.json"

FIGURES = ("accuracy", "macro_f1")
"""What is summed up of each model: shares of 0 to 1."""

SHARES = ("student_share", "student_matrix_share")
"""What is summed up of each network that the student's energy is compared with: everything, and products of matrices
alone."""


class _Record(TypedDict):
    """``seeds.json``; one of before it was noted lacks the version."""

    version: NotRequired[str]
    seeds: list[int]
    config: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """Which seeds ``config`` is run with."""

    config: RunConfig
    seeds: tuple[int, ...]

    @classmethod
    def of(cls, config: RunConfig, count: int) -> "Plan":
        """The seed of the configuration and those that follow it, ``count`` in all.

        Raises:
            ConfigError: ``count`` is less than 1.
        """
        if count < 1:
            raise ConfigError(problem("--seeds", expected="a number >= 1", got=str(count), hint="--seeds 3"))
        return cls(config, tuple(range(config.seed, config.seed + count)))

    @classmethod
    def read(cls, out: Path) -> "Plan":
        """The plan that `write` left in a folder.

        Raises:
            RunFolderError: there is none, or it is damaged.
            ConfigError: its configuration is damaged, or has lost a part.
        """
        file, what, hint = out / PLAN, "a plan of seeds", "a folder that minispike distill --seeds wrote"
        plan = read_record(file, _Record, what=what, hint=hint)
        if not plan["seeds"]:
            raise RunFolderError(problem(str(file), expected=what, got="no seed", hint=hint))
        return cls(run_config(plan["config"], file, plan.get("version")), tuple(plan["seeds"]))

    def write(self, out: Path) -> None:
        """Keep the plan in a folder, which is made if it is missing."""
        plan: _Record = {"version": __version__, "seeds": list(self.seeds), "config": to_mapping(self.config)}
        _write(out / PLAN, plan)


def run_seeds(
    plan: Plan, out: Path, teachers: TeacherSource, *, resume: bool = False, say: Callable[[str], None] = print
) -> dict[int, Facts]:
    """Run every seed of a plan that is not yet done.

    Args:
        plan: what to run.
        out: the folder of the runs; the plan is kept there once the inputs have been found fit.
        teachers: finds or makes those of each run.
        resume: go on with an interrupted plan.
        say: is told the configuration, and of each run that begins.

    Returns:
        The results of `distill` by seed; what `summarise` makes of them is kept in the folder.

    Raises:
        MinispikeError: anything the user can mend.
    """
    if not resume:
        check_free(out)
    results: dict[int, Facts] = {}
    for seed in plan.seeds:
        folder = out / f"seed-{seed}"
        started = resume and (folder / CONFIG).is_file()

        def begin(folder: Path = folder) -> None:
            if not (out / PLAN).is_file():
                plan.write(out)
                say(describe(plan.config))
            say(f"\n{folder}")

        results[seed] = distill(replace(plan.config, seed=seed), folder, teachers, resume=started, begin=begin)
    _write(out / SUMMARY, summarise(results))
    return results


def _write(path: Path, content: Mapping[str, Any]) -> None:
    with atomic_write(path) as file:
        json.dump(content, file, indent=1)


def summarise(results: Mapping[int, Facts]) -> Facts:
    """What the seeds have come to, together.

    Args:
        results: those of each seed, as `distill` returns them.

    Returns:
        The ``seeds``; of all ``models``, by name, their `FIGURES`; and ``energy``: of what it takes the ``twin`` and,
        where known, the ``teacher``, the `SHARES` that the student takes. Each of these as `spread` gives it.
    """
    tables = [facts["evaluation"]["table"] for facts in results.values()]
    costs = [facts["energy"] for facts in results.values()]
    models = {name: _spreads(tables, name, FIGURES) for name in _common(tables)}
    energy = {name: _spreads(costs, name, SHARES) for name in ("twin", "teacher") if name in _common(costs)}
    return {"seeds": list(results), "models": models, "energy": energy}


def spread(values: Sequence[float]) -> Facts:
    """The ``values``, their ``mean``, and their sample ``standard_deviation``, 0 for a single one."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"values": list(values), "mean": statistics.mean(values), "standard_deviation": deviation}


def _common(runs: Sequence[Facts]) -> list[str]:
    """What every run has, in the order of the first."""
    return [name for name in runs[0] if all(name in run for run in runs)]


def _spreads(runs: Sequence[Facts], name: str, figures: Sequence[str]) -> Facts:
    return {figure: spread([run[name][figure] for run in runs]) for figure in figures}
