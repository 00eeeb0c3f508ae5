"""The report is one well-formed file that asks the network for nothing and escapes what it is told."""

import base64
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from minispike.data.batches import in_order
from minispike.data.tokenizer import Encoded
from minispike.energy import ASSUMPTIONS, measure_energy
from minispike.errors import DataError
from minispike.models.bert import BertConfig
from minispike.models.spikebert import SpikeBERT
from minispike.models.spikebert_config import SpikeBERTConfig
from minispike.page import fold, image, items, page, section, table
from minispike.record import Recorder, record_sentence
from minispike.report import ModelResult, ReportContent, write_report

pytest.importorskip("matplotlib")

EVIL = "<script>alert('\"&')</script>"
TOKENS = ("[CLS]", "good", "<b>", "$", "[SEP]")
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Reader(HTMLParser):
    """Keeps tags, texts and attributes, and holds that every tag is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.text: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def pictures(self) -> list[tuple[str, bytes, str]]:
        """Kind, bytes and description of every image."""
        sources = [value for tag, name, value in self.attributes if (tag, name) == ("img", "src")]
        texts = [value for tag, name, value in self.attributes if (tag, name) == ("img", "alt")]
        found = []
        for source, text in zip(sources, texts, strict=True):
            kind, data = re.fullmatch(r"data:image/([\w+]+);base64,(.*)", source).groups()  # type: ignore[union-attr]
            found.append((kind, base64.b64decode(data, validate=True), text))
        return found


def read(path: Path) -> tuple[str, Reader]:
    text, reader = path.read_text(encoding="utf-8"), Reader()
    reader.feed(text)
    reader.close()
    assert not reader.open
    return text, reader


@pytest.fixture(scope="module")
def content() -> ReportContent:
    config = SpikeBERTConfig(vocab_size=40, dim=8, depth=2, heads=2, num_labels=2, max_length=12)
    model = SpikeBERT(config)
    rng = np.random.default_rng(0)
    for name, parameter in model.named_parameters():
        if ".norm.bias" in name:
            parameter.assign(parameter.numpy() + rng.normal(0.4, 0.5, size=parameter.shape).astype(np.float32))
    encoded = Encoded(tuple(rng.integers(0, 40, size=n).astype(np.int32) for n in (3, 5, 5)), None, 0.0, 0.0)
    recorder = Recorder()
    for batch in in_order(encoded, 2):
        model(batch.input_ids, batch.mask, features=False, observe=recorder.batch(batch.mask))
    teacher = BertConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_labels=2)
    rows = [{"step": s, "loss": 1.0 / (s + 1), "rate": 1e-3} for s in range(50)]
    return ReportContent(
        title=f"Reviews {EVIL}",
        config_text=f"[student]\nname = {EVIL}",
        results=(
            ModelResult.measure(f"majority {EVIL}", [0, 1, 1, 1], [1, 1, 1, 1], 2),
            ModelResult.measure("student", [0, 1, 1, 1], [0, 1, 1, 0], 2, f"note {EVIL}"),
        ),
        curves={f"general {EVIL}": rows, "task": [*rows, {"step": 9, "dev": {"score": 0.75}}]},
        rates=recorder.firing_rates(),
        sentence=TOKENS,
        recording=record_sentence(model, np.arange(5)),
        energy=measure_energy(model, in_order(encoded, 2), teacher),
        notes=(f"3 sentences dropped {EVIL}",),
        timings={f"general {EVIL}": 3725.0, "task": 59.97, "test": 1.5},
    )


@pytest.fixture(scope="module")
def written(content: ReportContent, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "run" / "report.html"
    write_report(path, content)
    return path


def test_asks_the_network_for_nothing(written: Path) -> None:
    text, reader = read(written)
    assert not re.search(r"https?:|//\w|@import|url\(", re.sub(r"base64,[\w+/=]+", "", text))
    assert not {"script", "link", "iframe", "object"} & set(reader.tags)
    for _, name, value in reader.attributes:
        assert name not in ("href", "srcset")
        assert name != "src" or value.startswith("data:image/")
    for kind, data, _ in reader.pictures():
        if kind == "svg+xml":
            drawn = data.decode("utf-8")
            assert not re.search(r"<(image|script)|href=\"(?!#|data:)", drawn)
    assert len(text) < 3_000_000


def test_escapes_what_it_is_told(written: Path) -> None:
    text, reader = read(written)
    assert "<script" not in text
    said = "".join(reader.text)
    for words in ("Reviews", "name =", "majority", "note", "3 sentences dropped", "general"):
        assert f"{words} {EVIL}" in said
    assert any(EVIL in alt for _, _, alt in reader.pictures())
    assert "<b>" in said


def test_tells_everything(written: Path, content: ReportContent) -> None:
    _, reader = read(written)
    said = "".join(reader.text)
    headings = ("Results", "Data", "Energy", "Firing rates", "Training", "One sentence in spikes")
    for words in (*headings, "Membrane potentials", "Time", "Configuration", *TOKENS, *ASSUMPTIONS):
        assert words in said
    assert "75.00" in said  # accuracy of both
    assert "30.1 to 95.4" in said  # Wilson's interval of 3 in 4
    assert "42.86" in said  # macro F1 of the majority class: (0 + 6/7) / 2
    assert content.energy is not None
    for ledger in content.energy.ledgers:
        assert f"{ledger.total_mj:.4g}" in said
        assert f"Rows of {ledger.name}" in said
    assert f"{content.energy.ratio:.1%}" in said
    for line in ("1 h 02 min", "1 min 00 s", "1.5 s", "1 h 03 min"):
        assert line in said


def test_pictures(written: Path) -> None:
    _, reader = read(written)
    pictures = reader.pictures()
    texts = [alt for _, _, alt in pictures]
    assert all(texts)
    assert "Phase task: loss over steps" in texts
    assert "Phase task: dev_score over steps" in texts
    assert all(data.startswith(b"\x89PNG") for kind, data, _ in pictures if kind == "png")
    assert all(b"<svg" in data for kind, data, _ in pictures if kind == "svg+xml")
    # input and two blocks; accuracies, energy, rates, two phases and an accuracy over steps, three potentials
    assert Counter(kind for kind, _, _ in pictures) == {"png": 3, "svg+xml": 9}


def test_the_same_content_gives_the_same_file(content: ReportContent, written: Path, tmp_path: Path) -> None:
    write_report(tmp_path / "again.html", content)
    assert (tmp_path / "again.html").read_bytes() == written.read_bytes()


def test_what_is_missing_is_left_out(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", ReportContent("Nothing yet"))
    _, reader = read(tmp_path / "report.html")
    assert reader.tags["section"] == reader.tags["img"] == 0
    assert reader.tags["h1"] == 1


def test_a_failure_leaves_the_old_report(content: ReportContent, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(DataError, match="sentence: expected 5 tokens, got 2"):
        write_report(path, ReportContent("x", recording=content.recording, sentence=("a", "b")))
    assert path.read_text(encoding="utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_pieces_of_a_page() -> None:
    assert table(["a<"], [["1&"]], "n").count("class=n") == 2
    assert "<th class=n>a&lt;</th>" in table(["a<"], [["1&"]], "n")
    assert items(["a<b", "c"]).count("<li>") == 2
    assert "a&lt;b" in items(["a<b"])
    assert "<details open>" in fold("t", "<i>x</i>", opened=True)
    assert "<h2>&amp;</h2>" in section("&", "")
    assert 'alt="&quot;"' in image("png", b"x", '"')
    assert "<title>&lt;</title>" in page("<", "")
    with pytest.raises(ValueError, match=r"shorter|longer"):
        table(["a", "b"], [["1"]], "ln")
