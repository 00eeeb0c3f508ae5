"""Make the mistakes of `edits` one after the other and see whether the tests notice.

    python tests/mutation/run.py [--only PART] [--jobs N] [--log FILE] [--out FILE] [--retry] [--also TEST]

Every mistake is made in a copy of the working tree, in a temporary folder, and undone; the tests of its subset run in
that copy. What is known is written to the log at once, one line of JSON a mistake, and is not asked again: a run that
was stopped goes on from there.
"""

import argparse
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mutation.edits import EDITS, ROOT, Edit, subset

LIMIT = 30.0
"""Seconds that a subset may take without a mistake."""


@dataclass(frozen=True)
class Result:
    """What became of a mistake: ``killed`` by a test, ``hung`` (killed by the time limit), or ``survived``."""

    edit: str
    outcome: str
    test: str
    seconds: float


class Copy:
    """A copy of the working tree in which mistakes are made and tests run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
        for name in filter(None, names):
            if (ROOT / name).is_file():  # one that was deleted is still listed
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        self.environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{folder / 'tests'}"}
        self.environment.setdefault("MINISPIKE_SHARED", str(ROOT.parent / "shared"))
        found = self.call([sys.executable, "-c", "import minispike; print(minispike.__file__)"], 60)[1]
        if not Path(found.strip()).is_relative_to(folder):
            raise SystemExit(f"minispike comes from {found.strip()}, not from the copy {folder}")

    def call(self, command: Sequence[str], limit: float, **variables: str) -> tuple[int | None, str]:
        """Exit status (None: the time was up, and all that was started has been stopped) and output."""
        process = subprocess.Popen(
            command, cwd=self.folder, env=self.environment | variables, text=True, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            output = process.communicate(timeout=limit)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return None, ""
        return process.returncode, output

    def test(self, arguments: Sequence[str], limit: float, **variables: str) -> tuple[int | None, str]:
        """Run pytest until the first failure, with examples that do not depend on earlier runs."""
        shutil.rmtree(self.folder / ".hypothesis", ignore_errors=True)
        pytest = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
        return self.call([*pytest, *arguments], limit, **variables)

    def make(self, edit: Edit, arguments: Sequence[str], limit: float) -> Result:
        """Make a mistake, run the tests, and undo it."""
        path = self.folder / edit.file
        right, times = path.read_text(), (path.stat().st_atime, path.stat().st_mtime)
        start = time.monotonic()
        path.write_text(edit.applied(right))
        try:  # the old compiled file is out of date by its time, and no new one may be left behind
            status, output = self.test(arguments, limit, PYTHONDONTWRITEBYTECODE="1")
        finally:
            path.write_text(right)
            os.utime(path, times)
        seconds = round(time.monotonic() - start, 1)
        if status is None:
            return Result(edit.name, "hung", "", seconds)
        if status == 0:
            return Result(edit.name, "survived", "", seconds)
        first = re.search(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE)
        if status < 0 or first:
            return Result(edit.name, "killed", first[1] if first else f"signal {-status}", seconds)
        raise SystemExit(f"{edit.name}: pytest ended with {status}\n{output[-3000:]}")


def check_subsets(copy: Copy, edits: Sequence[Edit], also: Sequence[str]) -> dict[tuple[str, ...], float]:
    """The time that each subset takes without a mistake; ends the run if one fails or takes too long."""
    times: dict[tuple[str, ...], float] = {}
    for edit in edits:
        arguments = (*subset(edit.file), *also)
        if arguments not in times:
            copy.test(arguments, 10 * LIMIT)  # compiles everything
            start = time.monotonic()
            status, output = copy.test(arguments, 10 * LIMIT)
            times[arguments] = time.monotonic() - start
            print(f"{times[arguments]:5.1f} s  {' '.join(a for a in arguments if a[0] != '-')}", flush=True)
            if status != 0 or times[arguments] > LIMIT:
                raise SystemExit(f"without a mistake this fails, or takes more than {LIMIT:g} s:\n{output[-3000:]}")
    return times


def known(log: Path, retry: bool) -> dict[str, Result]:
    """What the log says of the mistakes that are still on the list, the last word on each."""
    if not log.exists():
        return {}
    results = [Result(**json.loads(line)) for line in log.read_text().splitlines()]
    names = {edit.name for edit in EDITS}
    latest = {r.edit: r for r in results if r.edit in names}
    return {n: r for n, r in latest.items() if not (retry and r.outcome == "survived")}


def table(results: dict[str, Result]) -> str:
    """The kill rates by file, and what survived, in Markdown."""
    lines = ["| file | edits | killed | of these by the time limit | survived |", "|-|-|-|-|-|"]
    files = list(dict.fromkeys(e.file for e in EDITS if e.name in results))
    for label, chosen in [*((f"`{file}`", {file}) for file in files), ("all", set(files))]:
        outcomes = [results[e.name].outcome for e in EDITS if e.file in chosen and e.name in results]
        survived, hung = outcomes.count("survived"), outcomes.count("hung")
        share = f" ({(len(outcomes) - survived) / max(len(outcomes), 1):.1%})" if label == "all" else ""
        lines.append(f"| {label} | {len(outcomes)} | {len(outcomes) - survived}{share} | {hung} | {survived} |")
    lines += ["", "Survived:", ""]
    for edit in EDITS:
        if edit.name in results and results[edit.name].outcome == "survived":
            old, new = (repr(text)[1:-1].strip() for text in (edit.old, edit.new))
            lines.append(f"* `{edit.file}`: `{old}` -> `{new or '(nothing)'}` ({edit.why})")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(description="make mistakes in a copy, and see whether the tests notice")
    parser.add_argument("--only", default="", help="files whose path contains this")
    parser.add_argument("--jobs", type=int, default=1, help="how many mistakes at a time, each in a copy of its own")
    parser.add_argument("--log", type=Path, default=Path("runs/mutations.jsonl"), help="results so far")
    parser.add_argument("--out", type=Path, help="where the table goes")
    parser.add_argument("--retry", action="store_true", help="ask again what survived")
    parser.add_argument("--also", action="append", default=[], help="a test file that joins every subset")
    options = parser.parse_args()

    for edit in EDITS:
        edit.applied((ROOT / edit.file).read_text())  # an error here, and not after an hour
    options.log.parent.mkdir(parents=True, exist_ok=True)
    results = known(options.log, options.retry)
    left = [e for e in EDITS if options.only in e.file and e.name not in results]
    copies: queue.Queue[Copy] = queue.Queue()

    def job(edit: Edit) -> Result:
        copy = copies.get()
        try:
            arguments = (*subset(edit.file), *options.also)
            return copy.make(edit, arguments, 30 + 5 * times[arguments])
        finally:
            copies.put(copy)

    with (
        tempfile.TemporaryDirectory() as folder,
        ThreadPoolExecutor(options.jobs) as pool,
        options.log.open("a") as log,
    ):
        for i in range(options.jobs if left else 0):
            copies.put(Copy(Path(folder) / str(i)))
        times = check_subsets(copies.queue[0], left, options.also) if left else {}
        for number, (edit, result) in enumerate(zip(left, pool.map(job, left), strict=True), 1):
            results[edit.name] = result
            print(json.dumps(asdict(result)), file=log, flush=True)
            print(f"{number}/{len(left)} {result.outcome} {result.seconds} s {edit.name} {result.test}", flush=True)
    shown = table(results)
    print(shown)
    if options.out:
        options.out.write_text(shown)


if __name__ == "__main__":
    main()
