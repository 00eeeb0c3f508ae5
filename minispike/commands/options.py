"""From flags to a configuration: preset, then environment, then file, then flags, then ``--set``."""

import os
import shlex
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from minispike import backend
from minispike.config import RunConfig, preset
from minispike.errors import ConfigError, problem
from minispike.settings import describe, fields_help, left_out, override, read_toml
from minispike.toml_text import load_toml

FLAGS = {
    "data": "data.path",
    "text": "data.text",
    "teacher": "teacher.path",
    "backend": "backend",
    "seed": "seed",
}
"""Flags that are settings, with their keys."""

PHASES = ("teacher.pretraining", "teacher.finetuning", "stage1", "stage2")
"""The sections of settings that say how a phase is trained."""

PATHS = (("data", "path"), ("data", "text"), ("teacher", "path"), ("teacher", "cache_folder"))
"""Settings that are paths, as section and name."""


def assemble(args: Namespace, *, own_data: bool = False) -> RunConfig:
    """The configuration that the flags describe.

    Args:
        args: what was given; flags of `FLAGS` that a command lacks may be missing.
        own_data: begin with the preset for real data, whatever the flags, where none is asked for.

    Raises:
        ConfigError: an unknown preset or key, a wrong value, a file that is no TOML.
    """
    table = {} if args.config is None else load_toml(Path(args.config))
    asked = args.preset or table.get("preset")
    name = asked if isinstance(asked, str) else "mini" if own_data else "tiny"  # no name: a mistake that is told below
    config = replace(preset(name), backend=backend.current())
    if args.config is not None:
        config = read_toml(RunConfig, args.config, config)
        _check_preset(args, config, table)
    given = {flag: getattr(args, flag, None) for flag in FLAGS}
    for flag, value in given.items():
        if value == "":  # of a variable of the shell that is not set, say: the default would surprise
            raise ConfigError(problem(f"--{flag}", expected="a value", got="nothing", hint=f"leaving --{flag} out"))
    flags = [f"{FLAGS[flag]}={value}" for flag, value in given.items() if value is not None]
    if getattr(args, "low_memory", False):
        flags += [f"{phase}.low_memory=true" for phase in PHASES]
    config = override(replace(config, preset=name), [*flags, *args.set])
    if config.preset != name:
        hint = f"--preset {config.preset or 'mini'}"
        raise ConfigError(problem("preset", expected="a flag of its own", got="--set", hint=hint))
    if config.data.path and not (asked or own_data):
        return assemble(args, own_data=True)
    return _absolute(config)


def _check_preset(args: Namespace, config: RunConfig, table: Mapping[str, Any]) -> None:
    """Beside a file that has every setting, as that of a run has, a preset would be no more than a name."""
    if args.preset is not None and not left_out(config, table):
        got = f"{args.config}, which has them all"
        raise ConfigError(
            problem("--preset", expected="a file that leaves settings to it", got=got, hint="--config alone")
        )


def refuse_settings(args: Namespace, *also: str) -> None:
    """With ``--resume`` the configuration is the run's own: no flag may say otherwise.

    Args:
        args: what was given.
        also: names of further arguments that ``--resume`` excludes.

    Raises:
        ConfigError: such a flag was given.
    """
    names = [*FLAGS, "preset", "config", "low_memory", "set", "out", *also]
    values = {name: getattr(args, name, None) for name in names}
    given = [f"--{n.replace('_', '-')}" for n, v in values.items() if v is not False and v not in (None, [])]
    if given:
        expected, hint = "no settings beside it, for the run has its own", "--resume alone, or a new run"
        raise ConfigError(problem("--resume", expected=expected, got=", ".join(given), hint=hint))


def need(args: Namespace, *names: str) -> None:
    """See that flags are given which a new job cannot do without.

    Raises:
        ConfigError: one is missing.
    """
    for name in names:
        if getattr(args, name) is None:
            raise ConfigError(problem(f"--{name}", expected="a path", got="nothing", hint=f"--{name} PATH"))


def list_settings(config: RunConfig) -> str:
    """Every setting with its value in ``config``, its meaning and its type."""
    lines = (line.partition("=") for line in describe(config).splitlines())
    values = {key.strip(): value.strip() for key, _, value in lines}
    rows = [(f"{row.key} = {values[row.key]}", f"{row.help} ({row.type})") for row in fields_help(RunConfig)]
    width = max(len(setting) for setting, _ in rows)
    return "\n".join(f"{setting:<{width}}  {meaning.strip()}" for setting, meaning in rows)


def command(*words: object) -> str:
    """A command as it can be typed."""
    return shlex.join(str(word) for word in words)


def _absolute(config: RunConfig) -> RunConfig:
    """Paths from the root, so that a run can be resumed from any folder."""
    for section, name in PATHS:
        part = getattr(config, section)
        if path := getattr(part, name):
            config = replace(config, **{section: replace(part, **{name: os.path.abspath(path)})})
    return config
