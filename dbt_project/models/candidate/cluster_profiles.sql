{{ config(materialized='view') }}

{{ cluster_descriptions(ref('cluster_members'), 'audience') }}
