"""A real Kubernetes on one Linux machine, for the tests: ``python -m tests.bed up``.

Etcd, the control plane, one real node, fake GPU nodes, Kueue and KubeRay, each built from its Go module at the version
that ``versions.toml`` names. All of it lives in network and mount namespaces of its own and in one cgroup subtree, so
the host sees one loopback port and nothing else, and ends with them.
"""
