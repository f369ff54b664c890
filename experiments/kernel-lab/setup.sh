#!/usr/bin/env bash
# setup.sh LAB: the tools that the lab needs, on Debian as root, by apt, and the guest's program, LAB/gt.
# What is there already is kept. Exits with 3 and a reason on stdout where this machine cannot do it.
set -euo pipefail
cannot() { echo "$*"; exit 3; }
here=$(cd "$(dirname "$0")" && pwd)
export DEBIAN_FRONTEND=noninteractive

need=()
command -v qemu-system-x86_64 > /dev/null || need+=(qemu-system-x86 seabios)
command -v gcc > /dev/null || need+=(gcc libc6-dev)
command -v mkfs.ext4 > /dev/null || need+=(e2fsprogs)
[ -x /bin/busybox ] || need+=(busybox-static)
if [ ${#need[@]} -gt 0 ]; then
    command -v apt-get > /dev/null || cannot "no ${need[*]}, and no apt-get to install them"
    [ "$(id -u)" = 0 ] || cannot "no ${need[*]}, and only root can install them"
    apt-get update -qq > /dev/null || cannot "no ${need[*]}: apt-get update failed"
    apt-get install -y -qq --no-install-recommends "${need[@]}" > /dev/null || cannot "apt-get cannot install ${need[*]}"
fi

mkdir -p "$1"
gcc -O2 -Wall -static -o "$1/gt" "$here"/guest/*.c -lpthread
