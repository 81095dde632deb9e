"""The benchmark measures a fit that finds what was planted."""

from orchestration.bench.clusters import measure_clusters


def test_the_benchmark_clusters_made_people():
    figures = measure_clusters(1_200)
    assert figures["clusters"] >= 2 and set(figures["stages"]) >= {"choosing the number", "a whole fit"}
    assert all(wall >= 0 and processor >= 0 for wall, processor in figures["stages"].values())
