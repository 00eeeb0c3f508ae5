"""One configuration run with several seeds: which of the differences between models are more than luck.

    seeds.json    the seeds and the configuration
    seed-0/ ...   a run folder for each seed

is what the folder of such runs holds.
"""

import json
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from minispike.config import RunConfig
from minispike.distill.teacher import TeacherSource
from minispike.errors import ConfigError, MinispikeError, RunFolderError, problem
from minispike.files import atomic_write
from minispike.pipeline import distill
from minispike.runfolder import CONFIG, Facts, check_free
from minispike.settings import describe, from_mapping, to_mapping

PLAN = "seeds.json"


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
        """
        try:
            plan = json.loads((out / PLAN).read_text(encoding="utf-8"))
            return cls(from_mapping(RunConfig, plan["config"]), tuple(int(seed) for seed in plan["seeds"]))
        except (OSError, ValueError, KeyError, TypeError, MinispikeError) as cause:
            got, hint = f"{type(cause).__name__}: {cause}", "a folder that minispike distill --seeds wrote"
            message = problem(str(out / PLAN), expected="a plan of seeds", got=got, hint=hint)
            raise RunFolderError(message) from cause

    def write(self, out: Path) -> None:
        """Keep the plan in a folder, which is made if it is missing."""
        with atomic_write(out / PLAN) as file:
            json.dump({"seeds": self.seeds, "config": to_mapping(self.config)}, file, indent=1)


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
        The results of `distill` by seed.

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
    return results


def spread(results: Mapping[int, Facts]) -> dict[str, tuple[float, float]]:
    """Mean and sample standard deviation (0 for a single seed) of each model's accuracy."""
    tables = [facts["evaluation"]["table"] for facts in results.values()]
    found: dict[str, tuple[float, float]] = {}
    for name in tables[0]:
        shares = [table[name]["accuracy"] for table in tables]
        found[name] = statistics.mean(shares), statistics.stdev(shares) if len(shares) > 1 else 0.0
    return found
