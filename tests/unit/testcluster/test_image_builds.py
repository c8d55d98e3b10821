"""What is checked of the images without a build."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from tests.testcluster import project_images
from tests.testcluster.layout import REPOSITORY

BUILD = REPOSITORY / "helm" / "images" / "build"
NAMES = ("control-plane", "operators", "pipelines", "ray")


def build(*names: str, path: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, **environment} | ({} if path is None else {"PATH": path})
    return subprocess.run([str(BUILD), *names], env=variables, capture_output=True, text=True, check=False)


def test_there_is_an_image_for_each_role() -> None:
    assert project_images.NAMES == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_image_runs_unprivileged_without_installers_and_is_labelled(name: str) -> None:
    text = (project_images.FOLDER / name / "Dockerfile").read_text("utf-8")
    final = text.rpartition("\nFROM ")[2]
    users = re.findall(r"^USER (\S+)$", final, re.MULTILINE)
    assert users[-1:] in ([], ["1000:1000"])  # the base image's user
    assert "\nRUN /opt/windlass/install/install " in text
    assert set(re.findall(r"org\.opencontainers\.image\.(\w+)=", final)) == {
        "title",
        "version",
        "revision",
        "licenses",
    }


def test_an_unknown_image_is_refused_with_the_names_of_all() -> None:
    ended = build("trainer", BUILDER="buildah")
    assert ended.returncode == 2
    assert ended.stderr == (
        "error: there is no image 'trainer'; the images are: base control-plane operators pipelines ray\n"
    )


def test_a_wrong_choice_of_cuda_is_refused() -> None:
    ended = build("ray", BUILDER="buildah", CUDA="cpu")
    assert (ended.returncode, ended.stderr) == (2, "error: CUDA is 'cpu'; use CUDA=yes or CUDA=no\n")


def test_a_machine_without_a_builder_is_refused_with_the_way_out(tmp_path: Path) -> None:
    for program in ("bash", "env", "dirname", "sed", "head", "git"):
        (tmp_path / program).symlink_to(f"/usr/bin/{program}")
    ended = build("ray", path=str(tmp_path), BUILDER="")
    assert ended.returncode == 2
    assert "no docker, podman or buildah on PATH" in ended.stderr
    assert "BUILDER=" in ended.stderr


def test_the_digest_of_an_image_depends_on_the_files_that_it_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "helm" / "images"
    for name in ("base", "tool"):
        (folder / name).mkdir(parents=True)
    (folder / "base" / "Dockerfile").write_text('ARG PACKAGES="bash"\n')
    (folder / "build").write_text("#!/bin/sh\n")
    (folder / "tool" / "Dockerfile").write_text("FROM base\nCOPY --from=libraries /opt /opt\nCOPY source target\n")
    (tmp_path / "source" / "__pycache__").mkdir(parents=True)
    monkeypatch.setattr(project_images, "REPOSITORY", tmp_path)
    monkeypatch.setattr(project_images, "FOLDER", folder)
    monkeypatch.setattr(project_images, "_BASE", folder / "base" / "Dockerfile")
    monkeypatch.setattr(project_images, "_BUILD", folder / "build")
    digests = [project_images.digest("tool")]
    (tmp_path / "source" / "module.py").write_text("pass\n")
    digests.append(project_images.digest("tool"))
    (tmp_path / "source" / "__pycache__" / "module.pyc").write_text("")
    assert project_images.digest("tool") == digests[1]
    (folder / "build").write_text("#!/bin/sh\nset -e\n")
    digests.append(project_images.digest("tool"))
    assert len(set(digests)) == 3
