"""``minispike distill``: the main job, for one seed or several."""

import sys
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

from minispike.commands.options import assemble, command, list_settings, refuse_settings
from minispike.commands.text import energy_line, results_table, say, seeds_tables
from minispike.pipeline import distill
from minispike.runfolder import CONFIG, REPORT, Facts, read_config
from minispike.seeds import PLAN, SUMMARY, Plan, run_seeds, summarise
from minispike.settings import describe
from teachers.source import OnnxTeachers


def run(args: Namespace) -> int:
    """Carry out the command."""
    if args.list_settings:
        print(list_settings(assemble(args)))
        return 0
    if args.resume is not None:
        refuse_settings(args, "seeds")
    out = Path(args.resume or args.out or f"runs/{time.strftime('%Y%m%d-%H%M%S')}")
    plan = Plan.read(out) if args.resume and (out / PLAN).is_file() else None
    if plan is None and args.seeds is not None:
        plan = Plan.of(assemble(args), args.seeds)
    resume, teachers = args.resume is not None, OnnxTeachers()
    try:
        if plan is not None:
            _tell_all(run_seeds(plan, out, teachers, resume=resume, say=say), out)
        else:
            config = read_config(out) if resume else assemble(args)
            _tell(distill(config, out, teachers, resume=resume, begin=lambda: say(describe(config))), out)
    except KeyboardInterrupt:
        if any((out / name).is_file() for name in (CONFIG, PLAN)):
            go_on = command("minispike", "distill", "--resume", out)
            print(f"interrupted; to go on: {go_on}", file=sys.stderr)
        raise
    return 0


def _tell(facts: Facts, out: Path) -> None:
    say("\n" + results_table(facts["evaluation"]["table"]))
    say("\n" + energy_line(facts["energy"]))
    say(f"report: {out / REPORT}")


def _tell_all(results: Mapping[int, Facts], out: Path) -> None:
    """Each seed by itself, then mean and standard deviation of all."""
    for seed, facts in results.items():
        say(f"\nseed {seed}")
        _tell(facts, out / f"seed-{seed}")
    say(f"\n{len(results)} seeds\n{seeds_tables(summarise(results))}")
    say(f"summary: {out / SUMMARY}")
