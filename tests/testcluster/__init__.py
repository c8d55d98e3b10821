"""A real Kubernetes cluster on one Linux machine, for the tests: ``python -m tests.testcluster up``.

etcd, the control plane, one real node, fake GPU nodes, Kueue and KubeRay, each built from its Go module at the version
in ``versions.toml``. All processes run in separate network and mount namespaces and in one cgroup subtree: the host
sees one loopback port only, and ``down`` leaves nothing behind.
"""
