{#- The compiled text holds every centre: batch, online look-up and replay assign with these very numbers. -#}
{{ cluster_assignment(ref('audience_cluster_inputs'), 'audience_subject_token', 'audience') }}
