{#- The compliance side's own: its features, its pseudonym, its record. Nothing of it reaches the marketing side. -#}
{{ cluster_assignment(ref('risk_cluster_inputs'), 'risk_subject_token', 'risk') }}
