#!/bin/sh
# Furnishes the bed's namespaces. Runs once, inside of them, as: inside.sh STATE NODE_ADDRESS SERVICE_RANGE
#
# The parts write below /run, /var and /proc/sys as if the machine were theirs. Each of these is covered, so that what
# they write is seen by nobody else and ends with the namespaces.
set -eu

mount --make-rshared /
mount -t tmpfs -o mode=755 bed /run
mkdir -p /run/bed /run/netns /run/var/upper /run/var/work /run/sysctl
mount --bind "$1" /run/bed
mount -t overlay -o lowerdir=/var,upperdir=/run/var/upper,workdir=/run/var/work bed /var

# What a kubelet sets for the whole machine at its start goes to files instead.
for name in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
  copy=/run/sysctl/$(echo $name | tr / .)
  cat /proc/sys/$name >"$copy"
  mount --bind "$copy" /proc/sys/$name
done

# A network that ends at its own bridge: no address of it is known outside, and nothing sent inside can leave.
ip link set lo up
ip link add bed0 type bridge
ip address add "$2/24" dev bed0
ip link set bed0 up
ip route add "$3" dev bed0 src "$2"
echo 1 >/proc/sys/net/ipv4/ip_forward
# Answers of a Service to a pod on the same bridge must pass by the address translation.
echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables
