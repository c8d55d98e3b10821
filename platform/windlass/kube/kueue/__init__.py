"""What Windlass reads from Kueue: typed readings, and pure functions from them. There is no client in here.

``snapshot`` turns readings into the input of ``windlass.domain.quota``, ``accounts`` is the ledger from it, ``explain``
says why a workload waits.
"""
