#!/bin/sh
# Sets up the test cluster's mount and network namespaces. Runs once, inside them: setup_namespaces.sh STATE NODE_ADDRESS SERVICE_RANGE
#
# The components write below /run, /var and /proc/sys. Each of these is overmounted, so that the writes are invisible
# outside and disappear with the namespaces.
set -eu

mount --make-rshared /
mount -t tmpfs -o mode=755 testcluster /run
mkdir -p /run/testcluster /run/netns /run/var/upper /run/var/work /run/sysctl
mount --bind "$1" /run/testcluster
mount -t overlay -o lowerdir=/var,upperdir=/run/var/upper,workdir=/run/var/work testcluster /var

# The kubelet sets these machine-wide at its start; the writes go to copies instead.
for name in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
  copy=/run/sysctl/$(echo $name | tr / .)
  cat /proc/sys/$name >"$copy"
  mount --bind "$copy" /proc/sys/$name
done

# An isolated bridge network: nothing outside can reach it, and nothing inside can leave it.
ip link set lo up
ip link add testcluster0 type bridge
ip address add "$2/24" dev testcluster0
ip link set testcluster0 up
ip route add "$3" dev testcluster0 src "$2"
echo 1 >/proc/sys/net/ipv4/ip_forward
# Replies of a Service to a pod on the same bridge must pass NAT.
echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables
