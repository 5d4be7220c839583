# What every script here needs: packages, the Rust toolchain, RocksDB built once, the build cache.
# Sourced, not run.

set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/infrakit
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
# A server that a proxy or a wrapper left behind in the environment must not slow the first build.
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}

say() { printf '\n== %s\n' "$*" >&2; }
note() { printf '   %s\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$1" >&2; [ $# -lt 2 ] || printf ' remedy: %s\n' "$2" >&2; exit 1; }

# RocksDB is C++ and wants clang, which compiles it in half of g++'s time, and whose library
# reads its headers for Rust.
packages="ca-certificates curl clang libclang-dev gcc g++ make git python3 procps"

install_packages() {
    local missing=()
    for package in $packages "$@"; do
        dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || fail "these packages are missing: ${missing[*]}" \
        "install them with your distribution's package manager"
    local root=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || fail "these packages are missing: ${missing[*]}" "install them as root"
        root=(sudo)
    fi
    say "installing packages: ${missing[*]}"
    "${root[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

need_rust() {
    [ ! -f "$HOME/.cargo/env" ] || . "$HOME/.cargo/env"
    if ! command -v cargo >/dev/null; then
        say "installing the Rust toolchain with rustup"
        curl -fsSL https://sh.rustup.rs | sh -s -- -y --profile minimal -c clippy -c rustfmt
        . "$HOME/.cargo/env"
    fi
    local have want
    have=$(rustc --version | awk '{print $2}')
    want=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$top/Cargo.toml")
    [ "$(printf '%s\n%s\n' "$want" "$have" | sort -V | head -n 1)" = "$want" ] \
        || fail "Rust $have is too old; $want or newer is needed" "run 'rustup update'"
}

# Builds RocksDB once, in a few large pieces: its headers are most of what a compiler reads, so two pieces for each
# processor are compiled, of up to ninety files. What tests and the first run need is not optimised, which takes a quarter of the time; releases are (-O2).
need_rocksdb() { # optimisation
    local level=${1:--O0}
    cd "$top"
    cargo fetch --locked --quiet
    local manifest source version
    manifest=$(cargo metadata --locked --format-version 1 2>/dev/null | python3 -c '
import json, sys
print(next(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "librocksdb-sys"))')
    source=$(dirname "$manifest")
    version=$(basename "$source")
    local dir=$cache/$version$level
    export ROCKSDB_LIB_DIR=$dir ROCKSDB_STATIC=1
    [ ! -f "$dir/librocksdb.a" ] || return 0
    say "building RocksDB once ($level), into $dir"
    note "this is C++ and takes minutes; it is reused by every later build"
    local work=$dir/work-$$
    mkdir -p "$work"
    (
        cd "$work"
        local files=$((360 / ($(nproc) * 2)))
        [ "$files" -ge 12 ] || files=12
        grep -v 'util/build_version.cc' "$source/rocksdb_lib_sources.txt" \
            | awk -v root="$source/rocksdb/" -v files="$files" \
                '{ printf "#include \"%s%s\"\n", root, $0 > sprintf("unity_%02d.cc", (NR - 1) / files) }'
        cp "$source/build_version.cc" unity_version.cc
        local cpu=()
        [ "$(uname -m)" != x86_64 ] || cpu=(-msse4.2 -mpclmul)
        local flags=(-std=c++20 "$level" -fPIC -fno-rtti -ffunction-sections -fdata-sections -w "${cpu[@]}"
            -DNDEBUG -DHAVE_ALIGNED_NEW -DHAVE_UINT128_EXTENSION -DOS_LINUX -DROCKSDB_PLATFORM_POSIX
            -DROCKSDB_LIB_IO_POSIX -DROCKSDB_SCHED_GETCPU_PRESENT -DROCKSDB_AUXV_GETAUXVAL_PRESENT
            -DROCKSDB_FALLOCATE_PRESENT -DROCKSDB_RANGESYNC_PRESENT -include cstdint
            -I"$source/rocksdb/include" -I"$source/rocksdb" -I"$source")
        local total
        total=$(ls unity_*.cc | wc -l)
        ls unity_*.cc | xargs -P "$(nproc)" -I{} sh -c \
            'clang++ "$@" -c {} -o {}.o && printf "   RocksDB: %s of %s pieces\n" "$(ls *.o | wc -l)" "$0" >&2' "$total" "${flags[@]}"
        ar crs librocksdb.a unity_*.o
    )
    mv "$work/librocksdb.a" "$dir/librocksdb.a"
    rm -rf "$work"
}

# Where the time goes: `took STEP` ends a step, `told_times` prints all of them.
SECONDS=0
ended=0
times=()
took() {
    times+=("$(printf '%6d s  %s' $((SECONDS - ended)) "$1")")
    ended=$SECONDS
}
told_times() {
    say "time: $SECONDS s"
    local line
    for line in "${times[@]}"; do note "$line"; done
}

prepare() {
    install_packages "$@"
    took "packages"
    need_rust
    took "Rust"
    need_rocksdb "${rocksdb:--O0}"
    took "RocksDB"
}
