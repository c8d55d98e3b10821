"""Downloads of examples with the real pip, from a local folder instead of the package index."""

import csv
import io
import json
import os
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from windlass.domain.artifacts import sha256_file
from windlass.domain.errors import ChecksumMismatchError, NotFoundError, StorageFullError, UnavailableError
from windlass.examples import CATALOGUE, fetch
from windlass.examples.archives import MemberError, read_tar_member, read_wheel_member
from windlass.examples.catalogue import Example, Package
from windlass.examples.reviews import label_of, write_reviews
from windlass.examples.support import write_support

CATALOGUE_ATTRIBUTE = "windlass.examples.fetcher.CATALOGUE"
GROUND_TRUTH = '1_1\t-0.9\tit broke, "badly".\r\n1_2\t0.05\t it is a box. \r\n12_30\t2.5\tgreat!\r\n'
CORPUS = "conversations:\n- - It is dead.\n  - Charge it.\n- - Why?\n  - Because.\n  - Oh.\n"


def wheel(folder: Path, members: dict[str, str]) -> Path:
    path = folder / "demo_data-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
        archive.writestr("demo_data-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: demo-data\nVersion: 1.0\n")
        archive.writestr(
            "demo_data-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("demo_data-1.0.dist-info/RECORD", "")
    return path


def tar(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def example(name: str, archive: Path, *, source: bool = False) -> Example:
    pinned = Package("demo-data", "1.0", archive.name, sha256_file(archive).sha256, 0.1, source=source)
    return replace(CATALOGUE[name], package=pinned)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip uses as its only index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def support(index: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The support example, served from the local index."""
    archive = wheel(index, {"chatterbot_corpus/data/english/tech_support.yml": CORPUS})
    monkeypatch.setattr(CATALOGUE_ATTRIBUTE, {"support": example("support", archive)})
    return archive


def test_an_example_is_downloaded_verified_and_unpacked(tmp_path: Path, support: Path) -> None:
    messages: list[str] = []
    fetched = fetch("support", tmp_path / "data", tmp_path / "cache", messages.append)
    assert fetched.files == (tmp_path / "data" / "support.jsonl",)
    assert (fetched.licence, "demo-data 1.0" in fetched.source) == ("BSD", True)
    assert messages[0] == "downloading demo-data 1.0 (0.1 MB)"
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["support.jsonl"]
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [support.name]


def test_a_second_fetch_uses_the_cache_and_no_index(tmp_path: Path, support: Path) -> None:
    fetch("support", tmp_path / "data", tmp_path / "cache", lambda _: None)
    support.unlink()
    messages: list[str] = []
    fetch("support", tmp_path / "other", tmp_path / "cache", messages.append)
    assert (tmp_path / "other" / "support.jsonl").exists()
    assert not any("downloading" in message for message in messages)


def test_a_corrupt_cache_is_downloaded_again(tmp_path: Path, support: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / support.name).write_bytes(b"cut")
    assert fetch("support", tmp_path / "data", tmp_path / "cache", lambda _: None).files


def test_a_file_with_another_checksum_is_rejected_and_not_cached(tmp_path: Path, support: Path) -> None:
    wheel(support.parent, {"chatterbot_corpus/data/english/tech_support.yml": CORPUS + "# changed\n"})
    with pytest.raises(ChecksumMismatchError, match="does not have the pinned sha256"):
        fetch("support", tmp_path / "data", tmp_path / "cache", lambda _: None)
    assert list((tmp_path / "cache").iterdir()) == []
    assert not (tmp_path / "data").exists()


def test_a_download_error_has_the_error_of_pip(tmp_path: Path, support: Path) -> None:
    support.unlink()
    with pytest.raises(
        UnavailableError, match=r"pip cannot download demo-data 1\.0: ERROR: .*demo-data==1\.0"
    ) as raised:
        fetch("support", tmp_path / "data", tmp_path / "cache", lambda _: None)
    assert "pip config list" in raised.value.hint
    assert list((tmp_path / "cache").iterdir()) == []


def test_without_pip_the_hint_explains_how_to_install_it(
    tmp_path: Path, support: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(UnavailableError) as raised:
        fetch("support", tmp_path / "data", tmp_path / "cache", lambda _: None)
    assert "ensurepip" in raised.value.hint


def test_a_full_disk_leaves_no_partial_files(tmp_path: Path, support: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unpack(_archive: Path, target: Path) -> None:
        (target / "support.jsonl").write_text("half")
        raise OSError(28, "No space left on device")

    full = replace(example("support", support), unpack=unpack)
    monkeypatch.setattr(CATALOGUE_ATTRIBUTE, {"support": full})
    with pytest.raises(StorageFullError):
        fetch("support", tmp_path / "data", tmp_path / "cache", lambda _: None)
    assert list((tmp_path / "data").iterdir()) == []


def test_an_unknown_example_lists_the_available_ones(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as raised:
        fetch("nothing", tmp_path, tmp_path, lambda _: None)
    assert raised.value.hint == "available: reviews, support, minilm-l6, smollm2-135m"


@pytest.mark.parametrize("pyproject", [False, True])
def test_no_code_of_a_source_release_runs(
    tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch, pyproject: bool
) -> None:
    """The release's setup.py creates a file when it runs; with pyproject.toml it requires setuptools by name."""
    mark = tmp_path / "ran"
    members = {
        "demo_data-1.0/PKG-INFO": b"Metadata-Version: 1.1\nName: demo-data\nVersion: 1.0\n",
        "demo_data-1.0/setup.py": f"open({str(mark)!r}, 'w')\nfrom setuptools import setup; setup()".encode(),
        "demo_data-1.0/setuptools.py": f"open({str(mark)!r}, 'w')".encode(),
    }
    if pyproject:
        members["demo_data-1.0/pyproject.toml"] = b'[build-system]\nrequires = ["setuptools"]\n'
    archive = index / "demo_data-1.0.tar.gz"
    archive.write_bytes(tar(members))
    wanted = replace(example("reviews", archive, source=True), unpack=lambda _archive, _target: None)
    monkeypatch.setattr(CATALOGUE_ATTRIBUTE, {"reviews": wanted})
    fetch("reviews", tmp_path / "data", tmp_path / "cache", lambda _: None)
    assert sha256_file(tmp_path / "cache" / archive.name) == sha256_file(archive)
    assert not mark.exists()


def test_the_reviews_become_a_csv_file_with_label_and_group(tmp_path: Path) -> None:
    inner = tar({"hutto_ICWSM_2014/amazonReviewSnippets_GroundTruth.txt": GROUND_TRUTH.encode()})
    release = tmp_path / "release.tar.gz"
    release.write_bytes(tar({"vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz": inner}))
    write_reviews(release, tmp_path)
    with (tmp_path / "reviews.csv").open(encoding="utf-8", newline="") as stream:
        assert list(csv.reader(stream)) == [
            ["text", "label", "review", "rating"],
            ['it broke, "badly".', "negative", "1", "-0.9"],
            ["it is a box.", "neutral", "1", "0.05"],
            ["great!", "positive", "12", "2.5"],
        ]


@pytest.mark.parametrize(
    ("rating", "label"),
    [
        (0.05, "neutral"),
        (-0.05, "neutral"),
        (0.0, "neutral"),
        (0.051, "positive"),
        (-0.051, "negative"),
        (4, "positive"),
    ],
)
def test_ratings_become_labels_at_a_threshold(rating: float, label: str) -> None:
    assert label_of(rating) == label


def test_roles_of_a_conversation_alternate(tmp_path: Path) -> None:
    write_support(wheel(tmp_path, {"chatterbot_corpus/data/english/tech_support.yml": CORPUS}), tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "support.jsonl").read_text().splitlines()]
    assert [[message["role"] for message in row["messages"]] for row in rows] == [
        ["user", "assistant"],
        ["user", "assistant", "user"],
    ]
    assert rows[0]["messages"][1]["content"] == "Charge it."


def test_links_and_missing_archive_members_are_rejected(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    for name in ("link", "absent"):
        buffer.seek(0)
        with pytest.raises(MemberError):
            read_tar_member(buffer, name)
    with pytest.raises(MemberError):
        read_wheel_member(wheel(tmp_path, {"folder/": ""}), "folder/")
    with pytest.raises(MemberError):
        read_wheel_member(wheel(tmp_path, {}), "absent")


def test_every_entry_of_the_catalogue_is_pinned() -> None:
    assert set(CATALOGUE) == {"reviews", "support", "minilm-l6", "smollm2-135m"}
    for entry in CATALOGUE.values():
        assert len(entry.package.sha256) == 64
        assert entry.package.version in entry.package.file
        assert entry.package.source == entry.package.file.endswith(".tar.gz")


@pytest.mark.models
@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("reviews", {"reviews.csv": 400_987}),
        ("support", {"support.jsonl": 177_165}),
        ("smollm2-135m", {"SmolLM2-135M-Instruct.Q4_1.gguf": 98_362_432}),
        (
            "minilm-l6",
            {
                "config.json": 612,
                "model.safetensors": 90_868_376,
                "special_tokens_map.json": 112,
                "tokenizer.json": 466_247,
                "tokenizer_config.json": 350,
                "vocab.txt": 231_508,
            },
        ),
    ],
)
def test_the_real_packages_match_the_catalogue(tmp_path: Path, name: str, files: dict[str, int]) -> None:
    fetched = fetch(name, tmp_path / "data", tmp_path / "cache", lambda _: None)
    sizes = {path.name: path.stat().st_size for path in fetched.files}
    assert sizes == files
