import json
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

import mlassets
from mlassets.checks.reporting import NO_VERDICT_BLOCKS
from mlassets.definitions import definitions, defs
from mlassets.steps import SOURCES, STEPS
from resources.uploads import UPLOADS

HEAVY = {"pandas", "deepchecks", "duckdb", "matplotlib", "optuna", "plotly", "scipy", "sklearn", "skops"}

_IMPORT = """
import json, sys
import mlassets.definitions
files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
print(json.dumps({name: file for name, file in files.items() if isinstance(file, str)}))
"""


@pytest.fixture(scope="module")
def importing() -> subprocess.CompletedProcess[str]:
    """A fresh process that has imported the definitions and printed the files of all modules that brought in."""
    return subprocess.run(
        [sys.executable, "-W", "default", "-c", _IMPORT], capture_output=True, text=True, check=True
    )


def asset_specs() -> list[dg.AssetSpec]:
    return list(defs.resolve_all_asset_specs())


def test_the_definitions_validate() -> None:
    dg.Definitions.validate_loadable(definitions())


def test_there_is_one_asset_for_each_step_one_for_sources_and_one_for_uploads() -> None:
    assert {spec.key.path[-1] for spec in asset_specs()} == {SOURCES, *STEPS, UPLOADS}


def test_loading_them_imports_nothing_heavy(importing: subprocess.CompletedProcess[str]) -> None:
    loaded = {name.partition(".")[0] for name in json.loads(importing.stdout)}
    assert HEAVY & loaded == set()


def test_loading_them_warns_of_nothing_of_ours(importing: subprocess.CompletedProcess[str]) -> None:
    ours = str(Path(mlassets.__file__).parent.parent)
    warned = [
        line
        for line in importing.stderr.splitlines()
        if line.startswith(ours) and "site-packages" not in line
    ]
    assert warned == []
    assert "BetaWarning" not in importing.stderr
    assert "PreviewWarning" not in importing.stderr


@pytest.mark.parametrize("step", [SOURCES, *STEPS])
def test_a_person_sees_what_an_asset_is(step: str) -> None:
    (spec,) = [one for one in asset_specs() if one.key.path[-1] == step]
    assert spec.description
    assert spec.kinds
    assert spec.group_name not in (None, "default")
    assert spec.code_version
    assert spec.tags["step"] == step
    assert spec.partitions_def is not None


@pytest.mark.parametrize("step", [SOURCES, *STEPS])
def test_every_asset_is_judged_and_one_check_holds_up_what_is_downstream(step: str) -> None:
    graph = defs.resolve_asset_graph()
    keys = [key for key in graph.asset_check_keys if key.asset_key.path[-1] == step]
    specs = [graph.get_check_spec(key) for key in keys]
    assert len(specs) >= 2
    assert all(spec.description for spec in specs)
    assert [spec.name for spec in specs if spec.blocking] == [NO_VERDICT_BLOCKS]


def test_every_sensor_is_on_by_default() -> None:
    sensors = list(defs.sensors or ())
    assert {sensor.name for sensor in sensors} == {
        "changed_origin_sensor",
        "new_files_sensor",
        "new_data_sensor",
        "new_models_sensor",
        "changed_spec_sensor",
        "sent_back_sensor",
        "left_work_sensor",
        "new_input_sensor",
        "alerts_sensor",
    }
    for sensor in sensors:
        assert sensor.default_status == dg.DefaultSensorStatus.RUNNING, sensor.name


def test_the_owners_in_the_settings_own_every_asset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLASSETS_OWNERS", '["team:network-ops"]')
    defs = definitions(str(tmp_path))
    assert {tuple(spec.owners) for spec in defs.resolve_all_asset_specs()} == {("team:network-ops",)}


def test_a_deployment_without_owners_names_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MLASSETS_OWNERS", raising=False)
    assert {tuple(spec.owners) for spec in definitions(str(tmp_path)).resolve_all_asset_specs()} == {()}
