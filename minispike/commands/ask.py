"""``minispike evaluate``, ``predict`` and ``energy``: what a finished run says about texts."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict

from minispike import backend
from minispike.commands.text import interval, percent, show_json, table
from minispike.data.text import Examples, read_lines, read_tsv
from minispike.errors import ConfigError, DataError, problem
from minispike.loaded import Evaluation, Prediction, load


def evaluate(args: Namespace) -> int:
    """Compare the student's answers with the labels of a file."""
    with backend.use(args.backend or backend.current()):
        run = load(args.run)
        found = run.evaluate(read_tsv(args.file, run.label_names)[0])
    show_json(_plain(found)) if args.json else print(_in_words(found))
    return 0


def predict(args: Namespace) -> int:
    """Label sentences."""
    if bool(args.sentences) == (args.file is not None):
        expected, got = "sentences or --file", "both" if args.sentences else "neither"
        hint = 'minispike predict RUN "not a good film"'
        raise ConfigError(problem("texts", expected=expected, got=got, hint=hint))
    given = read_lines(args.file) if args.file is not None else args.sentences
    texts, pairs = _sides(given)
    with backend.use(args.backend or backend.current()):
        found = load(args.run).predict(texts, pairs)
    if args.json:
        show_json([{"text": text, **asdict(answer)} for text, answer in zip(given, found, strict=True)])
    else:
        for text, answer in zip(given, found, strict=True):
            print(f"{_shares(answer)}\t{text}")
    return 0


def energy(args: Namespace) -> int:
    """Measure what the student costs on the sentences of a file."""
    examples: Examples = read_tsv(args.file)[0]
    with backend.use(args.backend or backend.current()):
        report = load(args.run).energy(examples.texts, examples.pairs, args.convention)
    show_json(report.to_mapping()) if args.json else print(report.to_text())
    return 0


def _plain(found: Evaluation) -> dict[str, object]:
    figures = {name: getattr(found.result, name) for name in ("accuracy", "low", "high", "macro_f1")}
    return {"examples": found.examples, **figures, "classes": [asdict(each) for each in found.classes]}


def _in_words(found: Evaluation) -> str:
    result = found.result
    rows = [
        (f"accuracy of {found.examples}", percent(result.accuracy), interval(result.low, result.high)),
        ("macro F1", percent(result.macro_f1 or 0.0), ""),
    ]
    classes = [(c.label, str(c.examples), str(c.predicted), str(c.right)) for c in found.classes]
    counts = table(("label", "examples", "predicted", "right"), classes)
    return table(("student", "", "95 % interval"), rows) + "\n\n" + counts


def _shares(answer: Prediction) -> str:
    shares = " ".join(f"{label}={share:.3f}" for label, share in answer.probabilities.items())
    return f"{answer.label}\t{shares}"


def _sides(given: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """The texts, and, where each has a tab in it, what follows the tab: the second texts of pairs."""
    for number, text in enumerate(given, start=1):
        if not text.strip():
            hint = "leaving it out"
            raise DataError(problem(f"sentence {number}", expected="some text", got=repr(text), hint=hint))
    cells = [text.split("\t") for text in given]
    if all(len(row) == 1 for row in cells):
        return [row[0] for row in cells], None
    for number, row in enumerate(cells, start=1):
        if len(row) != 2 or not all(cell.strip() for cell in row):
            expected, hint = "two texts with a tab between them, as in other lines", "one kind of text"
            got = f"{len(row)} in {given[number - 1][:60]!r}"
            raise DataError(problem(f"sentence {number}", expected=expected, got=got, hint=hint))
    return [row[0] for row in cells], [row[1] for row in cells]
