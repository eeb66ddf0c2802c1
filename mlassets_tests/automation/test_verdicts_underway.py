"""Nothing starts on a version while its verdicts are still being found."""

import dagster as dg

from mlassets.conditions import ON_NEW_INPUT
from mlassets.partitions import PROJECT

KEY = "late"


def test_what_is_downstream_waits_until_the_blocking_check_of_a_new_version_has_ended() -> None:
    partitions = dg.DynamicPartitionsDefinition(name=PROJECT)

    @dg.asset(partitions_def=partitions)
    def upstream() -> None: ...

    @dg.asset_check(asset=upstream, blocking=True, partitions_def=partitions)
    def sound() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    @dg.asset(partitions_def=partitions, deps=[upstream], automation_condition=ON_NEW_INPUT)
    def downstream() -> None: ...

    defs = dg.Definitions([upstream, downstream], asset_checks=[sound])
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(PROJECT, [KEY])
        first = dg.evaluate_automation_conditions(defs, instance)
        assert first.total_requested == 0
        dg.materialize([upstream], partition_key=KEY, instance=instance)
        job = defs.resolve_implicit_global_asset_job_def().get_subset(
            asset_check_selection={sound.check_key}, asset_selection=set()
        )
        run = instance.create_run_for_job(
            job, tags={"dagster/partition": KEY}, status=dg.DagsterRunStatus.STARTED
        )
        judging = dg.evaluate_automation_conditions(defs, instance, cursor=first.cursor)
        assert judging.total_requested == 0
        instance.report_dagster_event(
            dg.DagsterEvent(
                event_type_value=dg.DagsterEventType.ASSET_CHECK_EVALUATION.value,
                job_name=job.name,
                event_specific_data=dg.AssetCheckEvaluation(
                    asset_key=upstream.key, check_name="sound", passed=True, metadata={}, partition=KEY
                ),
            ),
            run_id=run.run_id,
        )
        instance.report_run_canceled(run)
        judged = dg.evaluate_automation_conditions(defs, instance, cursor=judging.cursor)
        assert judged.total_requested == 1
