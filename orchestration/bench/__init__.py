"""The benchmark: the pipeline beside its floor, the same result from bare DuckDB statements in one process.

Belongs here: measuring. Does not belong here: anything that a run needs. Nothing is re-exported here.
"""
