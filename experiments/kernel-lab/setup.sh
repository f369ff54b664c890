#!/usr/bin/env bash
# setup.sh LAB: what the lab needs, on Debian as root: tools by apt, kernels unpacked in LAB/kernel/<release>, and LAB/gt.
# What is there already is kept. Exits with 3 and a reason on stdout where this machine cannot do it.
set -euo pipefail
cannot() { echo "$*"; exit 3; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1/kernel"
lab=$(cd "$1" && pwd)
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

# The kernels of this Debian and of its backports: their archive's address is the one that apt uses.
if [ -z "$(ls -A "$lab/kernel")" ]; then
    command -v apt-get > /dev/null || cannot "no kernel in $lab/kernel, and no apt-get to fetch one"
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    key=/usr/share/keyrings/debian-archive-keyring.gpg
    archive=$(apt-get indextargets --format '$(REPO_URI)' | grep -v security | sort -u | head -n 1)
    [ -n "$codename" ] && [ -n "$archive" ] && [ -f "$key" ] || cannot "no Debian archive among apt's sources"
    for suite in "$codename" "$codename-backports"; do
        apt=$lab/apt/$suite
        mkdir -p "$apt"/{lists/partial,cache/archives/partial}
        echo "deb [signed-by=$key] $archive $suite main" > "$apt/sources.list"
        options=(-o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$apt/lists"
                 -o "Dir::Cache=$apt/cache" -o Dir::State::status=/dev/null -o APT::Sandbox::User=root)
        apt-get "${options[@]}" update -qq > /dev/null || continue # not every Debian has backports
        package=$(apt-cache "${options[@]}" depends linux-image-amd64 |
            sed -n 's/^ *Depends: \(linux-image-[^ ]*\).*/\1/p' | head -n 1)
        [ -n "$package" ] && (cd "$apt" && apt-get "${options[@]}" download -qq "$package") || continue
        dpkg-deb -x "$apt/$package"_*.deb "$apt/unpacked"
        mv "$apt/unpacked" "$lab/kernel/${package#linux-image-}"
    done
    [ -n "$(ls -A "$lab/kernel")" ] || cannot "no kernel package for $codename on $(uname -m)"
fi

gcc -O2 -Wall -static -o "$lab/gt" "$here"/guest/*.c -lpthread
