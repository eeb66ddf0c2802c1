"""The sensor that tells people, on a real Dagster instance, against a real server."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from mlassets.alerting.alerts import Alert
from mlassets.automation.alerts import WATCHED, alerts_sensor, everything_open, failed_runs
from mlassets.home import Home
from mlassets.runs import instance_of
from mlassets_tests.alerting.receivers import Hook, hook
from mlassets_tests.small_homes import departures, mlassets, new_home, runner_of, store_of
from resources.settings import Settings
from resources.things import Draft, Partition

WRONG_SQL = {"sql": "SELECT id, wind, nosuch, late FROM flights WHERE origin = $segment"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home where a draw failed."""
    home = new_home(tmp_path_factory.mktemp("alerts") / "home", departures(["EWR"], 60), draw=WRONG_SQL)
    with runner_of(home) as runner:
        runner.take_landed_files()
        runner.run_due()
    return home


def open_runs(home: Path, now: datetime | None = None) -> list[Alert]:
    now = now or datetime.now(UTC)
    with instance_of(Settings(home=home)) as instance:
        return list(failed_runs(instance, Home(home=str(home)), now - WATCHED, now))


def look(home: Path, cursor: str | None) -> dg.SensorResult:
    with instance_of(Settings(home=home)) as instance:
        context = dg.build_sensor_context(
            instance=instance, cursor=cursor, resources={"home": Home(home=str(home))}
        )
        result = alerts_sensor(context)
    assert isinstance(result, dg.SensorResult)
    return result


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    with hook() as server:
        monkeypatch.setenv("MLASSETS_ALERTS", f'["{server.url}"]')
        yield server


def test_a_failed_run_says_why_and_links_to_its_log(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLASSETS_DAGSTER_URL", "http://here:3000")
    (found,) = open_runs(home)
    assert found.title == "late: draw_data, model_ready, model of late|EWR failed"
    assert "nosuch" in found.text
    assert "`mlassets run late`" in found.text
    assert found.link == f"http://here:3000/runs/{found.key.rpartition('/')[2]}"
    assert open_runs(home, datetime.now(UTC) + timedelta(days=2)) == []


def test_the_sensor_tells_once_and_again_after_a_server_was_down(home: Path, server: Hook) -> None:
    server.status = 500
    first = look(home, None)
    assert "still to be sent" in str(first.skip_reason)
    second = look(home, first.cursor)
    assert "tried again" not in str(second.skip_reason), "it is left alone for half a minute"
    server.status = 200
    told = look(home, None)
    assert [one["alerts"][0]["kind"] for one in server.posted] == ["failed_run"]
    assert "1 alerts are open; sent: 1 to webhook" in str(told.skip_reason)
    assert "nothing new" in str(look(home, told.cursor).skip_reason)
    assert len(server.posted) == 1


def test_without_channels_or_with_a_wrong_one_the_sensor_says_so(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "No alert channel is set" in str(look(home, "kept").skip_reason)
    assert look(home, "kept").cursor == "kept"
    monkeypatch.setenv("MLASSETS_ALERTS", '["gopher://s3cret"]')
    said = str(look(home, "kept").skip_reason)
    assert "alert channel 1 of MLASSETS_ALERTS cannot be used" in said
    assert "s3cret" not in said


def test_the_command_lists_what_is_open_and_tests_the_channels(home: Path, server: Hook) -> None:
    listed = mlassets(home, "alerts")
    assert listed.exit_code == 0, listed.output
    assert "draw_data, model_ready, model of late|EWR failed" in listed.stdout
    assert f"1 open; told to webhook 127.0.0.1:{server.port}." in listed.stdout
    tested = mlassets(home, "alerts", "--test")
    assert (tested.exit_code, len(server.posted)) == (0, 1)
    assert server.posted[0]["alerts"][0]["kind"] == "test"
    server.status = 500
    tested = mlassets(home, "alerts", "--test", "--json")
    assert tested.exit_code == 1
    assert "answered 500" in tested.stdout
    assert "secret" not in tested.output + listed.output


def test_what_was_made_since_is_no_failed_run_any_more(home: Path) -> None:
    store_of(home).commit("draw_data", Partition.segment("late", "EWR"), Draft(parameters={"by": "hand"}))
    assert open_runs(home) == []


def test_what_a_verdict_stopped_is_no_failed_run_but_a_crash_is(home: Path) -> None:
    @dg.asset
    def aggregate() -> None:
        pass

    @dg.asset_check(asset=aggregate, blocking=True)
    def no_verdict_blocks() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False)

    @dg.asset(deps=[aggregate])
    def review() -> None:
        raise RuntimeError("crashed")

    job = dg.Definitions(
        [aggregate, review], asset_checks=[no_verdict_blocks], executor=dg.in_process_executor
    )
    with instance_of(Settings(home=home)) as instance:
        for name in ("aggregate", "review"):
            job.resolve_implicit_global_asset_job_def().execute_in_process(
                instance=instance,
                asset_selection=[dg.AssetKey(name)],
                tags={"dagster/partition": "late"},
                raise_on_error=False,
            )
        found = everything_open(Home(home=str(home)), instance)
    assert [one.title for one in found.alerts if "EWR" not in one.title] == ["late: review of late failed"]
