#!/usr/bin/env bash
# root.sh LAB ARCHIVE PYTHON: LAB/root.img, a disk with a small Debian and the real programs of programs.toml, as root:
# Debian's packages from ARCHIVE, llama.cpp from PyPI's source package, a random model, C sources to compile.
# What is there already is kept. Exits with 3 and a reason on stdout where this machine cannot do it.
set -euo pipefail
cannot() { echo "$*"; exit 3; }
here=$(cd "$(dirname "$0")" && pwd)
lab=$(cd "$1" && pwd)
archive=$2 python=$3
image=$lab/root.img
[ ! -f "$image" ] || exit 0
export DEBIAN_FRONTEND=noninteractive

SUITE=bookworm
PACKAGES=redis-server,redis-tools,sqlite3,memcached,python3-minimal,stress-ng,gcc,libc6-dev,make
LLAMA=llama-cpp-python==0.3.36
IMAGE_MIB=5120

need=()
command -v mmdebstrap > /dev/null || need+=(mmdebstrap)
command -v cmake > /dev/null || need+=(cmake)
command -v make > /dev/null || need+=(make)
command -v g++ > /dev/null || need+=(g++)
[ "$(id -u)" = 0 ] || cannot "a Debian root needs root"
if [ ${#need[@]} -gt 0 ]; then
    command -v apt-get > /dev/null || cannot "no ${need[*]}, and no apt-get to install them"
    apt-get update -qq > /dev/null || cannot "no ${need[*]}: apt-get update failed"
    apt-get install -y -qq --no-install-recommends "${need[@]}" > /dev/null || cannot "apt-get cannot install ${need[*]}"
fi

# llama.cpp, linked statically: it runs in any root. No AVX: an emulated CPU is no faster with it.
completion=$lab/llama/build/bin/llama-completion
if [ ! -x "$completion" ]; then
    mkdir -p "$lab/llama/source"
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --no-binary "${LLAMA%%=*}" \
        --dest "$lab/llama" "$LLAMA" >&2 || cannot "pip cannot download the source package $LLAMA"
    tar -xzf "$lab"/llama/*.tar.gz -C "$lab/llama/source" --strip-components 1
    {
        cmake -S "$lab/llama/source/vendor/llama.cpp" -B "$lab/llama/build" -DCMAKE_BUILD_TYPE=Release \
            -DBUILD_SHARED_LIBS=OFF -DGGML_STATIC=ON -DCMAKE_EXE_LINKER_FLAGS=-static -DGGML_NATIVE=OFF \
            -DGGML_OPENMP=OFF -DGGML_AVX=OFF -DGGML_AVX2=OFF -DGGML_FMA=OFF -DGGML_F16C=OFF -DGGML_BMI2=OFF \
            -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF \
            -DLLAMA_BUILD_APP=OFF -DLLAMA_USE_PREBUILT_UI=OFF &&
            nice -n 10 cmake --build "$lab/llama/build" --target llama-completion -j "$(nproc)"
    } > "$lab/llama/build.log" 2>&1 || cannot "llama.cpp cannot be built: $lab/llama/build.log"
fi

tree=$lab/root
if [ ! -e "$tree/etc/debian_version" ]; then
    key=/usr/share/keyrings/debian-archive-keyring.gpg
    rm -rf "$tree"
    nice -n 10 mmdebstrap --quiet --variant=minbase --include="$PACKAGES" "$SUITE" "$tree" \
        "deb [signed-by=$key] $archive $SUITE main" >&2 || { rm -rf "$tree"; cannot "mmdebstrap cannot make a root"; }
    rm -rf "$tree"/var/cache/apt/* "$tree"/var/lib/apt/lists/* "$tree"/usr/share/{doc,man,locale}
fi
install -D "$completion" "$tree/usr/local/bin/llama-completion"
install -D -m 755 "$here/root/memcached_load.py" "$tree/usr/local/bin/memcached-load"
"$python" "$here/root/c_sources.py" "$tree/build"
"$python" "$here/root/random_model.py" "$tree/model.gguf"

truncate -s "${IMAGE_MIB}M" "$image.new"
mkfs.ext4 -q -F -E lazy_itable_init=0 -d "$tree" "$image.new"
mv "$image.new" "$image"
rm -rf "$tree"
