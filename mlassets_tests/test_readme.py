"""What README and docs say is true: commands exist and run, links lead somewhere, pages agree with the code."""

import os
import re
import runpy
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from typer.testing import CliRunner

from mlassets.cli import app
from mlassets.modelling.metrics import CANDIDATES, METRICS
from mlassets.projects import (
    AllRule,
    AnyRule,
    CronRule,
    DriftRule,
    NewDataRule,
    ProjectSpec,
    RetrainSpec,
    load_project,
)
from mlassets.steps import STEPS
from mlassets_tests import small_homes
from resources.lake import hash_bytes
from resources.retaining import load_policies

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "mlassets").rglob("*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")
SPEC_PAGE = (ROOT / "docs/project-spec.md").read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language in a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)


def commands(page: Path) -> list[str]:
    """The commands in the `sh` blocks of a page."""
    return [line for block in blocks(page, "sh") for line in block.splitlines() if line.strip()]


ALL_COMMANDS = sorted({line for page in PAGES for line in commands(page)})


def make(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    named = [f"{name}={value}" for name, value in variables.items()]
    return subprocess.run(
        ["make", "--no-print-directory", *arguments, *named],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={name: value for name, value in os.environ.items() if name not in ("VENV", "MAKEFLAGS")},
    )


@pytest.mark.parametrize("line", [line for line in ALL_COMMANDS if line.startswith("make ")])
def test_every_make_target_that_is_shown_exists_and_does_something(line: str) -> None:
    done = make("-n", *shlex.split(line)[1:])
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("line", [line for line in ALL_COMMANDS if line.startswith("mlassets ")])
def test_every_command_that_is_shown_is_one(line: str) -> None:
    from typer.main import get_command

    command: Any = get_command(app)
    words = shlex.split(line)[1:]
    while hasattr(command, "commands"):
        name = words.pop(0)
        assert name in command.commands, line
        command = command.commands[name]
    # Parsing checks every option and the number of arguments, and runs nothing. The file that is shown is not there.
    words = [str(ROOT / "README.md") if word == "customers.csv" else word for word in words]
    command.make_context(line, words)


def test_no_command_is_shown_that_nothing_here_checks() -> None:
    known = ("make ", "mlassets ", "dagster dev -w workspace.yaml")
    assert [line for line in ALL_COMMANDS if not line.startswith(known)] == []


def test_the_workspace_that_dagster_is_given_names_our_definitions() -> None:
    workspace = yaml.safe_load((ROOT / "workspace.yaml").read_text())
    (location,) = workspace["load_from"]
    assert location["python_module"]["module_name"] == "mlassets.definitions"


def test_the_two_commands_for_your_own_data_work_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = [block for block in blocks(ROOT / "README.md", "sh") if "mlassets new" in block]
    new, run = block.splitlines()
    (tmp_path / "customers.csv").write_text(
        "region,calls,churned\n"
        + "".join(
            f"{('north', 'south')[row % 2]},{row % 7},{('no', 'yes')[row % 7 > 3]}\n" for row in range(80)
        )
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLASSETS_HOME", raising=False)
    done = CliRunner().invoke(app, shlex.split(new)[1:])
    assert done.exit_code == 0, done.output
    spec = load_project(tmp_path / ".mlassets/projects/churn.yaml")
    assert spec.segments.column == "region"
    # Running it as it is takes a minute; that the next command finds the project is what is at stake here.
    assert shlex.split(run)[1:] == ["run", spec.project]
    status = CliRunner().invoke(app, ["status", spec.project, "--json"])
    assert status.exit_code == 0, status.output


def test_the_commands_table_lists_every_command() -> None:
    from typer.main import get_command

    def names(command: Any, before: str = "mlassets") -> Iterator[str]:
        for name, one in command.commands.items():
            yield from names(one, f"{before} {name}") if hasattr(one, "commands") else [f"{before} {name}"]

    told = re.findall(r"^\| `(mlassets [a-z]+(?: [a-z]+)?)", README, re.M)
    assert sorted(told) == sorted(names(get_command(app)))


def test_the_exit_codes_are_those_of_the_command() -> None:
    from mlassets import cli

    told = dict(re.findall(r"^\| (\d) \| (.+) \|$", README, re.M))
    assert set(told) == {"0", str(cli.FAILED), str(cli.WRONG), str(cli.BLOCKED)}
    assert "failed" in told[str(cli.FAILED)]
    assert "wrong" in told[str(cli.WRONG)]
    assert "blocks" in told[str(cli.BLOCKED)]


def test_an_old_python_is_refused_in_words(tmp_path: Path) -> None:
    old = tmp_path / "old-python"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.8.10 && exit 0\nexit 1\n')
    old.chmod(0o755)
    done = make("demo", PYTHON=str(old), VENV=str(tmp_path / "venv"))
    assert done.returncode != 0
    assert "Python 3.8.10; mlassets needs Python 3.11" in done.stdout
    assert not (tmp_path / "venv").exists()


def test_a_missing_python_is_told_in_words(tmp_path: Path) -> None:
    done = make("demo", PYTHON=str(tmp_path / "none"), VENV=str(tmp_path / "venv"))
    assert done.returncode != 0
    assert "Install Python 3.11" in done.stdout


def test_missing_chromium_is_told_in_words(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    for name in ("bin/python", ".runtime-installed", ".tools-installed"):
        (venv / name).touch()
    done = make("test", VENV=str(venv), CHROMIUM=str(tmp_path / "chromium"))
    assert done.returncode != 0
    assert "apt-get install chromium" in done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_that_exists(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    missing = []
    for target in targets:
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        where = (page.parent / file).resolve() if file else page
        if not where.exists() or (anchor and anchor not in anchors(where)):
            missing.append(target)
    assert missing == []


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_in_the_code_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:mlassets|mlassets_tests|resources|docker|docs)/[\w/.-]+)`", text))
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def repository_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        found = [ROOT / name for name in listed.stdout.splitlines()]
    else:  # an unpacked archive
        found = [path for path in ROOT.rglob("*") if ".venv" not in path.parts]
    return [path for path in found if path.is_file() and path.suffix not in (".gz", ".parquet", ".pyc")]


def test_no_file_names_a_package_registry_or_somebodys_home() -> None:
    # In two parts each, so that this file is not the first to be found.
    hosts = ["py" + "pi.org", "python" + "hosted.org", "npm" + "js.org", "conda.ana" + "conda.org"]
    homes = ["/ho" + "me/", "/ro" + "ot/", "/Us" + "ers/"]
    options = ["--index" + "-url", "--extra-index" + "-url", "--find" + "-links"]
    forbidden = re.compile("|".join(map(re.escape, hosts + homes + options)))
    files = repository_files()
    assert len(files) > 100
    found = {
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in files
        for match in forbidden.finditer(path.read_text(encoding="utf-8", errors="replace"))
    }
    assert found == set()


def test_the_page_of_verdicts_is_up_to_date() -> None:
    made = runpy.run_path(str(ROOT / "docs/make_verdicts.py"))
    assert made["PAGE"].read_text(encoding="utf-8") == made["page"](), "run `make docs`"


def fields(model: type[BaseModel], before: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted path and the default of every field of the spec, sections apart."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if kind == RetrainSpec.model_fields["rule"].annotation:
            # Rules stand directly below `retrain`.
            rules = (NewDataRule, CronRule, DriftRule, AnyRule, AllRule)
            yield from {
                path: default for rule in reversed(rules) for path, default in fields(rule, before)
            }.items()
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            if name == "segments":
                yield name, None
            yield from fields(kind, f"{before}{name}.")
        else:
            yield f"{before}{name}", field.get_default(call_default_factory=True)


def test_the_page_of_the_spec_lists_every_field_and_no_other() -> None:
    (table,) = re.findall(r"^\| field \| default \| meaning \|\n(.*?)\n\n", SPEC_PAGE, re.S | re.M)
    told = [
        name
        for names in re.findall(r"^\| (`[^|]+`) \|", table, re.M)
        for name in re.findall(r"`([\w.]+)`", names)
    ]
    assert sorted(told) == sorted(path for path, _ in fields(ProjectSpec))


@pytest.mark.parametrize(
    ("path", "default"),
    [
        (path, default)
        for path, default in fields(ProjectSpec)
        if isinstance(default, str | int | float) and default
    ],
)
def test_the_page_of_the_spec_tells_every_default(path: str, default: object) -> None:
    (told,) = re.findall(rf"^\| `{re.escape(path)}` \| ([^|]+) \|", SPEC_PAGE, re.M)
    shown = f"{default:g}" if isinstance(default, float) else str(default)
    assert told.strip() == f"`{shown}`"


def test_the_page_of_the_spec_names_every_metric_and_candidate() -> None:
    names = [*CANDIDATES, *(name for metrics in METRICS.values() for name in metrics)]
    assert [name for name in names if f"`{name}`" not in SPEC_PAGE and name not in SPEC_PAGE] == []


def test_the_smallest_spec_of_the_page_loads(tmp_path: Path) -> None:
    (text,) = blocks(ROOT / "docs/project-spec.md", "yaml")
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    assert load_project(path).project == "house-prices"


def test_the_mistakes_of_the_page_are_told_as_shown(tmp_path: Path) -> None:
    (told,) = blocks(ROOT / "docs/project-spec.md", "text")
    (text,) = blocks(ROOT / "docs/project-spec.md", "yaml")
    path = tmp_path / "house-prices.yaml"
    path.write_text(
        text.replace("project: house-prices", "project: House prices").replace("regression", "regresion")
    )
    with pytest.raises(Exception, match="2 mistakes") as caught:
        load_project(path)
    assert str(caught.value).replace(str(path), "projects/house-prices.yaml") == told.rstrip("\n")


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of one small segment, with a release."""
    home = small_homes.new_home(tmp_path_factory.mktemp("home"), small_homes.departures(["EWR"]))
    assert {outcome.state for outcome in small_homes.run_all(home)} == {"done"}
    return home


def test_the_python_for_reading_a_release_runs_as_shown(
    released: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {"home": str(released)}
    for block in blocks(ROOT / "docs/how-to/read-a-release.md", "python"):
        exec(compile(block, "read-a-release.md", "exec"), names)  # our own page
    assert names["predictions"].num_rows == names["release"].rows
    assert set(names["again"].column_names) == {"row_key", "prediction", "probability"}
    printed = capfd.readouterr().out
    assert "EWR" in printed
    assert "2013-01.csv" in printed


def test_the_python_for_lineage_traces_and_sql_runs_as_shown(
    released: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {"home": str(released)}
    for block in blocks(ROOT / "docs/how-to/trace-and-lineage.md", "python"):
        exec(compile(block, "trace-and-lineage.md", "exec"), names)  # our own page
    assert {"sources", "draw_data", "model", "review"} <= set(names["frame"]["step"])
    found = names["found"]
    assert found.gaps == []
    assert [str(row["id"]) for row in found.drawn] == [names["key"]]
    (file,) = found.sources[0].files
    landed = (released / "landing" / file.name).read_bytes()
    assert (file.hash, file.matching) == (hash_bytes(landed), 1)
    assert names["table"]["rows"][0].as_py() == names["count"]
    assert "late draw_data" in capfd.readouterr().out


def test_the_python_for_comparing_runs_as_shown(released: Path, capfd: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"home": str(released)}
    for block in blocks(ROOT / "docs/how-to/compare-and-reproduce.md", "python"):
        exec(compile(block, "compare-and-reproduce.md", "exec"), names)  # our own page
    assert names["record"]["same_content"]
    assert list(names["frame"]["partition"]) == ["late|EWR"]
    assert b"test.roc_auc over time" in names["html"]
    assert names["frame"]["parameters.estimator"].item() in ("LogisticRegression", "DummyClassifier")
    assert "metrics.test.roc_auc" in capfd.readouterr().out


def test_the_example_of_a_retention_is_accepted(tmp_path: Path) -> None:
    (text,) = blocks(ROOT / "docs/how-to/keep-the-store.md", "yaml")
    (tmp_path / "retention.yaml").write_text(text)
    assert len(load_policies(tmp_path / "retention.yaml", (*STEPS, "sources", "uploads"))) == 4


def test_the_python_for_deciding_and_rolling_back_runs_as_shown(
    released: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {"home": str(released)}
    for block in blocks(ROOT / "docs/how-to/review.md", "python"):
        exec(compile(block, "review.md", "exec"), names)  # our own page
    assert names["decided"].outcome.state == "done"
    assert names["release"].parameters["from"] == names["decided"].release
    assert "rolled_back" in capfd.readouterr().out


def test_the_example_of_who_may_decide_is_accepted(tmp_path: Path) -> None:
    (given,) = blocks(ROOT / "docs/how-to/review.md", "yaml")
    small_homes.write_spec(tmp_path, **yaml.safe_load(given))
    assert load_project(tmp_path / "projects/late.yaml").review.four_eyes


def test_every_rule_of_the_page_on_reviews_is_one(tmp_path: Path) -> None:
    page = (ROOT / "docs/how-to/review.md").read_text(encoding="utf-8")
    rules = re.findall(r"^\| `([^`…]+)` \|", page, re.M)
    assert len(rules) == 5
    small_homes.write_spec(tmp_path, review={"rules": rules})
    assert load_project(tmp_path / "projects/late.yaml").review.rules == tuple(rules)


def test_the_example_of_limits_on_the_verdicts_page_is_accepted(tmp_path: Path) -> None:
    (limits,) = blocks(ROOT / "docs/verdicts.md", "yaml")
    small_homes.write_spec(tmp_path, **yaml.safe_load(limits))
    assert load_project(tmp_path / "projects/late.yaml").checks.fail["roc_auc"].value == 0.6
