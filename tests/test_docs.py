"""The pages of `docs/`: examples run, places are found, and what is not there is told."""

import doctest
import re
from pathlib import Path
from typing import Any

import pytest

from docs import look
from docs.site import places
from docs.site.places import PlaceError, find

ROOT = Path(__file__).parent.parent


def test_the_engine_page_runs() -> None:
    pytest.importorskip("tokenizers")
    text = (ROOT / "docs/engine.md").read_text(encoding="utf-8")
    code = "\n\n".join(re.findall(r"^```pycon\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE))
    test = doctest.DocTestParser().get_doctest(code, {}, "engine.md", None, 0)
    result = doctest.DocTestRunner().run(test)
    assert result.attempted == text.count(">>> ") > 20
    assert result.failed == 0, "see the captured output"


def test_examples_of_the_places() -> None:
    result = doctest.testmod(places)
    assert result.attempted > 0 and result.failed == 0


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg/__init__.py").write_text("")
    (tmp_path / "pkg/code.py").write_text(
        "LIMIT = 3\n\n\n@cached\ndef f(x):\n    y = x\n    return y\n\n\n"
        "class A:\n    def f(self):\n        return self\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("target", "first", "last"),
    [
        ("pkg.code", 1, 12),
        ("pkg.code:LIMIT", 1, 1),
        ("pkg.code:f", 4, 7),
        ("pkg.code:A.f", 11, 12),
        ("pkg.code:f @ return", 7, 7),
        ("pkg.code @ y = x", 6, 6),
    ],
)
def test_places_are_found(project: Path, target: str, first: int, last: int) -> None:
    place = find(project, target)
    assert (place.file, place.first, place.last) == ("pkg/code.py", first, last)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("pkg.cod:f", "expected a module"),
        ("pkg.code:g", "expected something that pkg/code.py defines, got g"),
        ("pkg.code:f @ z = x", "expected one line with 'z = x', got 0"),
        ("pkg.code @ return", "got 2"),
    ],
)
def test_places_that_are_not_there_are_told(project: Path, target: str, said: str) -> None:
    with pytest.raises(PlaceError, match=said):
        find(project, target)


def test_indented_blocks_of_docstrings_are_literal() -> None:
    pytest.importorskip("sphinx")
    from docs.site import docstrings

    result = doctest.testmod(docstrings)
    assert result.attempted > 0 and result.failed == 0
    section = ["Args:", "    x: one.", "", "        more of it.", "", "Returns:", "    y."]
    assert docstrings.with_blocks(section) == section


def test_formulas() -> None:
    pytest.importorskip("ziamath")
    from docs.site.formulas import FormulaError, drawing

    assert 'aria-label="x_t &lt; \\tau"' in drawing(r"x_t < \tau", True)
    for wrong in (r"\foo x", r"\frac{a", r"\left( x"):
        with pytest.raises(FormulaError):
            drawing(wrong, False)


def built(folder: Path, text: str) -> Any:
    """What Sphinx says of a page with this text: its exit code, with warnings as errors."""
    pytest.importorskip("myst_nb")
    from sphinx.cmd.build import build_main

    (folder / "conf.py").write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "extensions = ['myst_parser', 'docs.site.formulas', 'docs.site.sources']\n"
        "html_math_renderer = 'drawn'\nmyst_enable_extensions = ['dollarmath']\n"
    )
    (folder / "index.md").write_text(f"# Page\n\n{text}\n")
    return build_main(["-W", "-q", "-b", "html", str(folder), str(folder / "out")])


def test_a_page_with_a_link_to_the_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert built(tmp_path, "{line}`walk <minispike.graph:differentiate>` and $x^2$") == 0
    page = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    line = find(ROOT, "minispike.graph:differentiate").first
    assert f'href="source/minispike/graph.html#L-{line}"' in page
    assert f'id="L-{line}"' in (tmp_path / "out/source/minispike/graph.html").read_text(encoding="utf-8")
    assert "<svg" in page


@pytest.mark.parametrize(
    "text", ["{line}`walk <minispike.graph:nobody>`", "```{excerpt} minispike.graph:nobody\n```", r"$\nobody x$"]
)
def test_what_is_not_there_fails_the_build(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert built(tmp_path, text) != 0
    assert "nobody" in capsys.readouterr().err


def test_dead_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("")
    home = tmp_path.as_uri()
    seen = look.Seen(ids={"a.html": {"here"}}, links={"a.html": {f"{home}/a.html#here"}})
    assert look.dead_links(tmp_path, seen) == []
    seen.links["a.html"] |= {f"{home}/a.html#there", f"{home}/b.html"}
    assert look.dead_links(tmp_path, seen) == [
        "a.html: links to a.html#there, a place that is not there",
        "a.html: links to b.html, which is not there",
    ]


def test_a_page_needs_a_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.html").write_text("<p>")
    monkeypatch.setenv("CHROMIUM", str(tmp_path / "none"))
    with pytest.raises(SystemExit, match="apt-get install chromium"):
        look.main([str(tmp_path)])
    with pytest.raises(SystemExit, match="expected pages"):
        look.main([str(tmp_path), "--only", "b"])
