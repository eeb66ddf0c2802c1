from pathlib import Path

import dagster as dg
import pytest

from mlassets.checks.reporting import NO_VERDICT_BLOCKS, declare, report
from mlassets.home import Home
from mlassets.partitions import projects, segments, sources
from mlassets.quality.checks import checks_of
from resources.things import Draft, Partition, Thing
from resources.verdicts import Severity, Status, Verdict

PASSED = Verdict(
    "segments_are_covered", "passed", "ERROR", 1.0, ">= 1", 3, "All 3 segments have a model.", {}
)
PARTITIONS = {
    "sources": ("sources", sources),
    "draw_data": ("integrity", segments),
    "model_ready": ("train_test", segments),
    "model": ("evaluation", segments),
    "aggregate": ("aggregate", projects),
    "review": ("review", projects),
    "publish": ("publish", projects),
}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(home=str(tmp_path))


@pytest.fixture
def thing(home: Home) -> Thing:
    return home.store.commit("aggregate", Partition.project("late"), Draft(metrics={"rows": 3}))


def reported(home: Home, thing: Thing, *verdicts: Verdict) -> list[dg.AssetCheckResult]:
    """What `report` yields within a real run of a check on the asset `aggregate`."""
    found: list[dg.AssetCheckResult] = []
    names = [*(verdict.claim for verdict in verdicts), NO_VERDICT_BLOCKS]

    @dg.multi_asset_check(specs=[dg.AssetCheckSpec(name, asset="aggregate") for name in names])
    def checks(context: dg.AssetCheckExecutionContext):
        for result in report(home, thing, verdicts, context.run.run_id):
            found.append(result)
            yield result

    with dg.DagsterInstance.ephemeral() as instance:
        job = dg.Definitions(
            asset_checks=[checks],
            jobs=[dg.define_asset_job("all_checks", dg.AssetSelection.all_asset_checks())],
        )
        assert job.resolve_job_def("all_checks").execute_in_process(instance=instance).success
    return found


@pytest.mark.parametrize("step", PARTITIONS)
def test_every_check_of_a_suite_is_declared_once_and_one_of_them_blocks(step: str) -> None:
    suite, definition = PARTITIONS[step]
    specs = declare(step, suite, definition)  # type: ignore[arg-type]
    assert [spec.name for spec in specs] == [*(entry.claim for entry in checks_of(suite)), NO_VERDICT_BLOCKS]
    assert [spec.name for spec in specs if spec.blocking] == [NO_VERDICT_BLOCKS]
    assert all(spec.partitions_def == definition and spec.description for spec in specs)
    assert {spec.asset_key for spec in specs} == {dg.AssetKey(step)}


def test_a_verdict_is_told_to_dagster_as_it_was_found(home: Home, thing: Thing) -> None:
    first, summary = reported(home, thing, PASSED)
    assert (first.check_name, first.passed, first.severity) == (
        "segments_are_covered",
        True,
        dg.AssetCheckSeverity.ERROR,
    )
    assert first.description == "All 3 segments have a model."
    assert {name: first.metadata[name].value for name in ("status", "observed", "limit", "n", "thing")} == {
        "status": "passed",
        "observed": 1.0,
        "limit": ">= 1",
        "n": 3,
        "thing": thing.id,
    }
    assert (summary.check_name, summary.passed) == (NO_VERDICT_BLOCKS, True)
    assert summary.description == "Nothing blocks."


@pytest.mark.parametrize(
    ("status", "severity", "passes", "blocks"),
    [
        ("passed", "ERROR", True, False),
        ("not_applicable", "ERROR", True, False),
        ("failed", "WARN", False, False),
        ("failed", "ERROR", False, True),
        ("crashed", "WARN", False, False),
        ("crashed", "ERROR", False, True),
    ],
)
def test_a_failure_with_severity_error_blocks_and_a_crash_is_a_failure(
    home: Home, thing: Thing, status: Status, severity: Severity, passes: bool, blocks: bool
) -> None:
    verdict = Verdict("a_claim", status, severity, None, None, 0, "found", {})
    first, summary = reported(home, thing, verdict)
    assert first.passed is passes
    assert first.severity is dg.AssetCheckSeverity[severity]
    assert "observed" not in first.metadata
    assert first.metadata["limit"].value == "none"
    assert summary.passed is not blocks
    assert summary.description == ("Blocked by a_claim." if blocks else "Nothing blocks.")
    assert summary.metadata["failed"].value == int(not passes)
    assert summary.metadata["not applicable"].value == int(status == "not_applicable")


def test_verdicts_are_in_the_store_with_their_page_before_dagster_hears_of_them(
    home: Home, thing: Thing
) -> None:
    with dg.DagsterInstance.ephemeral():
        seen: list[int] = []

        @dg.multi_asset_check(
            specs=[dg.AssetCheckSpec(name, asset="aggregate") for name in (PASSED.claim, NO_VERDICT_BLOCKS)]
        )
        def checks(context: dg.AssetCheckExecutionContext):
            results = report(home, thing, [PASSED], context.run.run_id)
            first = next(results)
            seen.append(len(home.store.verdicts(thing.id)))
            yield first
            yield from results

        result = dg.Definitions(
            asset_checks=[checks],
            jobs=[dg.define_asset_job("all_checks", dg.AssetSelection.all_asset_checks())],
        ).resolve_job_def("all_checks")
        assert result.execute_in_process().success
    assert seen == [1]
    assert home.store.verdicts(thing.id) == [PASSED]
    page = Path(home.store.report_path(thing.id) or "").read_text()
    assert "aggregate of late" in page
    assert thing.id in page


def test_a_check_that_is_run_again_replaces_what_was_found_and_keeps_the_record(
    home: Home, thing: Thing
) -> None:
    reported(home, thing, PASSED)
    failed = Verdict("segments_are_covered", "failed", "ERROR", 0.5, ">= 1", 2, "No model for `LGA`.", {})
    reported(home, thing, failed)
    assert home.store.verdicts(thing.id) == [failed]
    runs = list((Path(home.settings.lake) / "verdicts" / thing.id).iterdir())
    assert len(runs) == 2


def test_reports_are_linked_as_pages_where_they_are_served(
    home: Home, thing: Thing, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first, _) = reported(home, thing, PASSED)
    assert "report page" not in first.metadata
    assert Path(first.metadata["report"].value).is_file()
    monkeypatch.setenv("MLASSETS_REPORTS_URL", "http://127.0.0.1:3001")
    (first, _) = reported(home, thing, PASSED)
    assert first.metadata["report page"].value == f"http://127.0.0.1:3001/{thing.id}"
