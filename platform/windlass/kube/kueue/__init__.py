"""Typed models of the Kueue objects that Windlass reads, and pure functions on them; no client.

``snapshot`` converts them into the input of ``windlass.domain.quota``; ``explain`` returns why a workload waits.
"""
