"""The workloads, one file each: a function that takes a running `Rig` and yields results. Targets are those of the
quality requirements.
"""
