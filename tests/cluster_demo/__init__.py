"""``make cluster-demo``: installs Windlass with Helm on the test cluster, and runs the demo against it."""
