{{ config(materialized='view') }}

{{ cluster_descriptions(ref('risk_cluster_members'), 'risk') }}
