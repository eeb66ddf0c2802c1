"""What installs, deploys and lints the project agrees with itself."""

import re
import shlex
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from resources.settings import Settings

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): pinned for name, pinned in pairs}


def requirements() -> list[Requirement]:
    listed = [
        *PROJECT["project"]["dependencies"],
        *(one for extra in PROJECT["project"]["optional-dependencies"].values() for one in extra),
        *PROJECT["dependency-groups"]["dev"],
        *PROJECT["build-system"]["requires"],
    ]
    return [Requirement(text) for text in listed]


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_every_requirement_is_pinned_within_its_range(requirement: Requirement) -> None:
    pinned = pins()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(pinned)


def test_every_pin_is_one_exact_version() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[\w.-]+==[\w.+!]+", line), line


def test_every_package_that_is_imported_is_a_requirement() -> None:
    names = {canonicalize_name(one.name).replace("-", "_") for one in requirements()}
    # Imported under a name of their own.
    names |= {"sklearn", "pydantic_settings", "ruamel", "re2", "docx", "markdown_it", "psycopg2"}
    names |= {"mlassets", "resources", "dagster_duckdb"}
    # What comes with a requirement of ours and is part of its public face.
    names |= {"botocore", "pdfminer", "scipy", "urllib3"}
    import sys

    imported = {
        match[1]
        for room in ("mlassets", "resources")
        for path in (ROOT / room).rglob("*.py")
        for match in re.finditer(
            r"^\s*(?:from|import) ([a-zA-Z]\w*)[\w.]*(?: import|$| as)", path.read_text(), re.M
        )
    }
    assert sorted(imported - names - set(sys.stdlib_module_names)) == []


def test_no_requirement_is_left_over() -> None:
    text = "\n".join(
        path.read_text() for room in ("mlassets", "resources") for path in (ROOT / room).rglob("*.py")
    )
    modules = {
        "scikit-learn": "sklearn",
        "ruamel-yaml": "ruamel",
        "google-re2": "re2",
        "psycopg2-binary": "psycopg2",
        "markdown-it-py": "markdown_it",
        "python-docx": "docx",
    }
    # dagster-webserver is the UI that `mlassets ui` starts; setuptools is what deepchecks imports pkg_resources from;
    # tzdata is what zoneinfo reads where the machine has none.
    without_import = {"dagster-webserver", "setuptools", "tzdata"}
    unused = []
    for one in map(Requirement, PROJECT["project"]["dependencies"]):
        name = canonicalize_name(one.name)
        module = modules.get(name, name.replace("-", "_"))
        if name not in without_import and not re.search(rf"^\s*(from|import) {module}\b", text, re.M):
            unused.append(name)
    assert unused == []


def test_the_version_is_the_same_everywhere() -> None:
    number = PROJECT["project"]["version"]
    assert version("mlassets") == number
    assert f"## {number}" in (ROOT / "CHANGELOG.md").read_text()
    assert COMPOSE["x-dagster"]["image"] == f"mlassets:{number}"


def test_compose_names_real_images_services_and_volumes() -> None:
    services = COMPOSE["services"]
    assert set(services) == {"postgres", "code", "daemon", "webserver", "receive"}
    assert all(re.fullmatch(r"(postgres|mlassets):[\w.-]+", one["image"]) for one in services.values())
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
        for mount in service.get("volumes", []):
            assert mount.split(":")[0] in COMPOSE["volumes"]
    assert {mount.split(":")[0] for one in services.values() for mount in one.get("volumes", [])} == set(
        COMPOSE["volumes"]
    )


def test_a_team_can_set_how_often_and_how_much_sensors_ask_for() -> None:
    environment = COMPOSE["x-dagster"]["environment"]
    assert {"MLASSETS_SECONDS_BETWEEN_LOOKS", "MLASSETS_RUNS_PER_LOOK"} <= set(environment)
    fields = {f"MLASSETS_{name.upper()}" for name in Settings.model_fields}
    assert {name for name in environment if name.startswith("MLASSETS_")} <= fields


def test_only_our_image_is_built_and_from_a_file_that_exists() -> None:
    built = [one["build"] for one in COMPOSE["services"].values() if "build" in one]
    assert built == [{"context": "..", "dockerfile": "docker/Dockerfile"}]
    assert (ROOT / "docker" / built[0]["context"] / built[0]["dockerfile"]).is_file()


def copied() -> list[str]:
    lines = (ROOT / "docker/Dockerfile").read_text().splitlines()
    return [source for line in lines if line.startswith("COPY ") for source in shlex.split(line)[1:-1]]


def test_everything_that_the_image_copies_exists_and_reaches_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert copied()
    for name in copied():
        assert (ROOT / name).exists(), name
        assert f"!{name}" in ignored


def test_the_services_find_each_other_and_their_files() -> None:
    (server,) = yaml.safe_load((ROOT / "docker/workspace.yaml").read_text())["load_from"]
    services = COMPOSE["services"]
    assert server["grpc_server"]["host"] in services
    assert str(server["grpc_server"]["port"]) in services["code"]["command"]
    assert "mlassets.definitions" in services["code"]["command"]
    for name in ("daemon", "webserver"):
        assert "/opt/dagster/workspace.yaml" in services[name]["command"]
    assert "docker/workspace.yaml" in copied()
    home = services["code"]["volumes"][0].split(":")[1]
    assert f"MLASSETS_HOME={home}" in (ROOT / "docker/Dockerfile").read_text()


def test_every_variable_that_the_instance_reads_is_given() -> None:
    text = (ROOT / "docker/dagster.yaml").read_text()
    assert set(re.findall(r"env: (\w+)", text)) <= set(COMPOSE["x-dagster"]["environment"])


def test_the_instance_of_a_team_is_one_that_dagster_accepts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dagster._core.instance.config import dagster_instance_config

    for name in COMPOSE["x-dagster"]["environment"]:
        monkeypatch.setenv(name, "x")
    (tmp_path / "dagster.yaml").write_text((ROOT / "docker/dagster.yaml").read_text())
    config, _ = dagster_instance_config(str(tmp_path))
    assert set(config["storage"]) == {"postgres"}


def test_ci_and_the_hooks_call_what_exists() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yaml").read_text())
    (job,) = workflow["jobs"].values()
    assert ".ci/run" in [step.get("run") for step in job["steps"]]
    script = (ROOT / ".ci/run").read_text()
    assert (ROOT / ".ci/run").stat().st_mode & 0o111
    assert 'timed "make test" make test' in script
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"\bmake ([a-z]+)$", script, re.M)) <= targets
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)
    assert lint
    for hook in hooks:
        assert hook["entry"].startswith(".venv/bin/")
        assert hook["entry"].split()[0].rpartition("/")[2] in lint[1]
