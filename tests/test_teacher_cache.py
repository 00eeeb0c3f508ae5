"""The cache of answers gives back what was put in, or nothing; it keeps within its size, and never stops the work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from teachers import cache as module
from teachers.cache import CacheFolder, Entry, default_folder, fingerprint

SIZES = (5, 0, 7, 300)
PAYLOADS = tuple(bytes(range(i, i + size % 256)) + b"x" * (size - size % 256) for i, size in enumerate(SIZES))
KEYS = tuple(fingerprint([name]) for name in (b"a", b"b", b"c", b"d"))


def opened(folder: CacheFolder, key: str = KEYS[0], sizes: tuple[int, ...] = SIZES) -> Entry:
    entry = folder.open(key, sizes)
    assert entry is not None
    return entry


def filled(folder: CacheFolder, key: str = KEYS[0]) -> Path:
    """The file of an entry that knows every sentence; it is closed."""
    entry = opened(folder, key)
    for i, payload in enumerate(PAYLOADS):
        entry.put(i, payload)
    folder.close(entry)
    return entry.path


def known(folder: CacheFolder, key: str = KEYS[0]) -> list[bool]:
    """Which sentences an entry knows; what it says of them is right."""
    entry = opened(folder, key)
    found = [entry.get(i) for i in range(len(SIZES))]
    folder.close(entry)
    assert all(got in (None, payload) for got, payload in zip(found, PAYLOADS, strict=True))
    return [got is not None for got in found]


def test_what_was_put_in_comes_out(tmp_path: Path) -> None:
    folder = CacheFolder(tmp_path / "new", 10**6)
    entry = opened(folder)
    assert [entry.get(i) for i in range(4)] == [None] * 4
    for i in (2, 1):
        entry.put(i, PAYLOADS[i])
    assert [entry.get(i) for i in range(4)] == [None, b"", PAYLOADS[2], None]
    folder.close(entry)
    assert known(CacheFolder(tmp_path / "new", 10**6)) == [False, True, True, False]
    assert known(folder, KEYS[1]) == [False] * 4


@pytest.mark.parametrize("wrong", ["cut short", "too long", "empty", "other header", "other sizes"])
def test_a_foreign_or_truncated_file_is_rebuilt(tmp_path: Path, wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = CacheFolder(tmp_path, 10**6)
    path = filled(folder)
    content = path.read_bytes()
    changed = {"cut short": content[:-1], "too long": content + b"0", "empty": b""}
    path.write_bytes(changed.get(wrong, b"something else" + content[14:]))
    if wrong == "other sizes":
        path.write_bytes(content)
        folder.close(opened(folder, sizes=(1, 2)))
    assert known(folder) == [False] * 4
    filled(folder)
    assert known(folder) == [True] * 4
    assert capsys.readouterr() == ("", "")


def test_a_damaged_record_is_unknown(tmp_path: Path) -> None:
    """A byte that was not written, or was changed: its sentence alone is lost."""
    folder = CacheFolder(tmp_path, 10**6)
    path = filled(folder)
    content = bytearray(path.read_bytes())
    for place in (-1, -150, -299):
        content[place] ^= 1
        path.write_bytes(content)
        assert known(folder) == [True, True, True, False]
        content[place] ^= 1
    path.write_bytes(content[:-200] + bytes(200))
    assert known(folder) == [True, True, True, False]


def test_two_at_once(tmp_path: Path) -> None:
    """Each sees what the other has written, for the bytes are the same."""
    one, other = (opened(CacheFolder(tmp_path, 10**6)) for _ in range(2))
    one.put(0, PAYLOADS[0])
    other.put(2, PAYLOADS[2])
    other.put(0, PAYLOADS[0])
    for entry in (one, other):
        assert [entry.get(i) for i in range(4)] == [PAYLOADS[0], None, PAYLOADS[2], None]


@pytest.mark.skipif(os.name == "nt", reason="Windows does not delete what is open")
def test_an_entry_that_vanishes(tmp_path: Path) -> None:
    folder = CacheFolder(tmp_path, 10**6)
    entry = opened(folder)
    entry.put(0, PAYLOADS[0])
    entry.path.unlink()
    entry.put(2, PAYLOADS[2])
    assert [entry.get(i) for i in range(4)] == [PAYLOADS[0], None, PAYLOADS[2], None]
    folder.close(entry)
    assert known(folder) == [False] * 4


def test_the_entries_used_longest_ago_make_room(tmp_path: Path) -> None:
    size = filled(CacheFolder(tmp_path, 10**6)).stat().st_size
    folder = CacheFolder(tmp_path, 3 * size)
    paths = [filled(folder, key) for key in KEYS[:3]]
    for age, path in zip((1, 3, 2), paths, strict=True):
        os.utime(path, (1000 - age, 1000 - age))
    (tmp_path / "diary.txt").write_text("not ours " * size)
    (tmp_path / f"{KEYS[3]}.txt").write_text("nor is this")
    filled(folder, KEYS[3])
    assert [path.is_file() for path in paths] == [True, False, True]
    assert (tmp_path / "diary.txt").is_file() and (tmp_path / f"{KEYS[3]}.txt").is_file()
    os.utime(paths[2], (0, 0))
    assert known(folder, KEYS[2]) == [True] * 4  # which is use
    filled(folder, KEYS[1])
    assert [path.is_file() for path in paths] == [False, True, True]


def test_what_is_open_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = filled(CacheFolder(tmp_path, 10**6)).stat().st_size
    folder = CacheFolder(tmp_path, 2 * size)
    old = opened(folder, KEYS[0])
    os.utime(old.path, (0, 0))
    filled(folder, KEYS[1])
    other = opened(folder, KEYS[2])
    assert old.path.is_file() and not (tmp_path / f"{KEYS[1]}.teacher").exists()
    assert folder.open(KEYS[3], SIZES) is None  # no room is left, and nothing is deleted for it
    said = "no room for 0.4 KiB of answers within 0.8 KiB, of which 0.8 KiB are in use; they are not kept"
    assert said in capsys.readouterr().err
    assert old.path.is_file() and other.path.is_file()
    assert folder.open(KEYS[2], SIZES) is not None  # the same once more takes no room
    folder.close(old)
    assert folder.open(KEYS[3], SIZES) is not None
    assert CacheFolder(tmp_path, size - 1).open(KEYS[0], SIZES) is None
    assert CacheFolder(tmp_path / "never made", 0).open(KEYS[0], SIZES) is None
    assert not (tmp_path / "never made").exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("no folder")
    assert CacheFolder(tmp_path / "file" / "cache", 10**6).open(KEYS[0], SIZES) is None
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith("teacher cache: ") and "answers are not kept" in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = opened(CacheFolder(tmp_path, 10**6))
    entry.put(0, PAYLOADS[0])
    entry._file.close()
    entry._file = open("/dev/full", "r+b", buffering=0)
    for i in (2, 3):
        entry.put(i, PAYLOADS[i])
    assert [entry.get(i) for i in range(4)] == [PAYLOADS[0], None, None, None]
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "No space left" in err and "no more answers are kept" in err


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")
def test_a_file_that_may_not_be_so_large(tmp_path: Path) -> None:
    """A disk without room for the whole file, in a process of its own."""
    program = (
        "import resource, signal, sys; from pathlib import Path; from teachers.cache import CacheFolder\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "assert CacheFolder(Path(sys.argv[1]), 10**6).open('0' * 64, [2000]) is None"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 1 and "answers are not kept" in done.stderr


def test_a_fingerprint_knows_where_parts_end() -> None:
    assert fingerprint([b"ab", b"c"]) != fingerprint([b"a", b"bc"]) != fingerprint([b"abc"])
    assert fingerprint(iter([b"ab"])) == fingerprint([b"ab"])


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, "home/.cache/minispike"),
        ("linux", {"XDG_CACHE_HOME": "xdg"}, "xdg/minispike"),
        ("darwin", {"XDG_CACHE_HOME": "xdg"}, "home/Library/Caches/minispike"),
        ("win32", {"LOCALAPPDATA": "local"}, "local/minispike"),
        ("win32", {}, "home/AppData/Local/minispike"),
        ("darwin", {"MINISPIKE_CACHE": "own"}, "own"),
    ],
)
def test_the_default_folder(
    monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], expected: str
) -> None:
    for name in ("MINISPIKE_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(module.sys, "platform", platform)
    monkeypatch.setattr(module.Path, "home", lambda: Path("home"))
    assert default_folder() == Path(expected)


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("MINISPIKE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module.sys, "platform", "linux")
    monkeypatch.setattr(module.Path, "home", nowhere)
    assert default_folder() is None
    monkeypatch.setenv("XDG_CACHE_HOME", "xdg")
    assert default_folder() == Path("xdg/minispike")


def test_sizes_in_words() -> None:
    assert [module._amount(count) for count in (100, 2**20 - 1, 2**20, 3 * 2**30)] == [
        "0.1 KiB", "1024.0 KiB", "1 MiB", "3072 MiB",
    ]  # fmt: skip


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told_once_for_all_entries(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = CacheFolder(tmp_path, 10**6)
    for key in KEYS:
        entry = opened(folder, key)
        entry._file.close()
        entry._file = open("/dev/full", "r+b", buffering=0)
        entry.put(0, PAYLOADS[0])
        folder.close(entry)
    assert capsys.readouterr().err.count("\n") == 1
