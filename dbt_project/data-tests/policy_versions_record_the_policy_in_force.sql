{#-
  Fails when the policy was edited and nobody recorded a version. The row it returns holds
  the fingerprint that the new row of seeds/policy/policy_versions.csv needs.
-#}
{{ config(
    tags=["policy"],
    description="The newest recorded version carries the fingerprint of the policy as it is.",
    meta={"dagster": {"ref": {"name": "policy_versions"}}}
) }}

with fingerprint as (

    {{ policy_fingerprint() }}

),

newest_version as (

    select
        version,
        fingerprint as recorded_fingerprint,
        row_number() over (order by valid_from desc, version desc) as position
    from {{ ref('policy_versions') }}

)

select
    newest_version.version,
    newest_version.recorded_fingerprint,
    fingerprint.fingerprint
from fingerprint
left join newest_version on newest_version.position = 1
where
    newest_version.recorded_fingerprint is null
    or newest_version.recorded_fingerprint <> fingerprint.fingerprint
