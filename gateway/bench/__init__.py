"""The benchmark: a load generator, a foreign writer and a bare reference server, each a process of its own, around
one gateway.

``command`` holds the commands, ``workloads`` one file a workload, ``rig`` starts and ends the processes. Nothing here
is imported by the gateway's server. It needs Linux (``/proc``, ``sock_diag``) and the extra ``bench`` (picows).
"""
