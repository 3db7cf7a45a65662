#!/bin/sh
# What needs a GPU, on a machine that may have no network: the GPU tests, then the figures, into benchmarks/results/.
#
#   sh benchmarks/gpu.sh tests   [WHEELS [options of pytest]]       a minute or two
#   sh benchmarks/gpu.sh kernels [WHEELS [options of kernels.py]]   five minutes with all peers
#   sh benchmarks/gpu.sh tuning  [WHEELS [options of tuning.py]]    nine minutes; run it again to go on
#   sh benchmarks/gpu.sh tiles   [WHEELS [options of attention_tiles.py]] which tiles attention should take
#   sh benchmarks/gpu.sh all     [WHEELS]                           one after the other
#   sh benchmarks/gpu.sh brief   [WHEELS]                           tests, and what the targets name: within nine minutes
#
# WHEELS is a folder of wheels that the machine lacks (bitsandbytes, peft, trl, liger-kernel, datasets ...), as gpu_wheels.py
# fills it; those in WHEELS/unsloth are for Unsloth alone, which needs an older TRL. Without the folder, what is installed
# is used. They go into $PACKAGES, by default a temporary folder, and are not installed again if they are there.
#
# The whole table of tuning.py takes hours, mostly for the peers. It is made in pieces: measurements are kept in
# tuning-cuda.runs.jsonl, every call goes on from there and writes the table as far as it is known; it exits with 1 while
# Hybrid is missing in a row. To choose:
#   --rows 3600/200/8 --systems unsloth   rows P/s/G and peers; Hybrid is always measured
#   --checkpointing yes|no                one of the two settings
#   --seconds 60                          fewer steps where a step takes long
# $RESULTS names another folder for what is written, $PYTHON another interpreter.
set -eu

stage=${1:?usage: sh benchmarks/gpu.sh tests|kernels|tuning|tiles|all|brief [WHEELS [options]]}
shift
wheels=${1:-}
[ $# -eq 0 ] || shift
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
packages=${PACKAGES:-${TMPDIR:-/tmp}/hybrid-gpu-packages}
results=${RESULTS:-$root/benchmarks/results}
mkdir -p "$packages" "$results"

# Installs the wheels of folder $1 into folder $2, unless that was done before.
install() {
    [ -n "$(find "$1" -maxdepth 1 -name '*.whl' 2>/dev/null)" ] || return 0
    [ ! -e "$2/.installed" ] || return 0
    "$python" -m pip install -q --no-index --no-deps --upgrade --find-links "$1" --target "$2" "$1"/*.whl
    touch "$2/.installed"
}

if [ -n "$wheels" ]; then
    install "$wheels" "$packages/all"
    install "$wheels/unsloth" "$packages/unsloth"
fi
export PYTHONPATH="$packages/all:$root${PYTHONPATH:+:$PYTHONPATH}"
mkdir -p "$packages/unsloth"

tests() {
    bad=0
    # The other folders need packages that such a machine may lack.
    (cd "$root/tests" && "$python" -m pytest --timeout 120 -m gpu kernels tuning "$@") || bad=1
    # Of the other tests these run on a GPU where there is one.
    (cd "$root/tests/kernels" && "$python" -m pytest --timeout 120 test_gated.py test_rms_norm.py test_rope.py "$@") || bad=1
    return "$bad"
}

kernels() {
    "$python" "$root/benchmarks/kernels.py" --device cuda --json --unsloth-path "$packages/unsloth" "$@" \
        >"$results/kernels-cuda.json"
}

tuning() {
    "$python" "$root/benchmarks/tuning.py" --device cuda --json --unsloth-path "$packages/unsloth" --minutes 9 \
        --runs "$results/tuning-cuda.runs.jsonl" "$@" >"$results/tuning-cuda.json"
}

tiles() { "$python" "$root/benchmarks/attention_tiles.py" --json "$@" >"$results/attention_tiles-cuda.json"; }

# A failed test must not cost the figures: it is told at the end. What matters most comes first.
brief() {
    failed=0
    tests || failed=1
    tuning --rows 3600/200/8 3600/200/1 3600/200/16 3600/200/4 --systems unsloth --checkpointing yes --seconds 15 --minutes 5 ||
        failed=1
    kernels --systems torch bitsandbytes flash || failed=1
    return "$failed"
}

case $stage in
    tests | kernels | tuning | tiles) "$stage" "$@" ;;
    all)
        tests
        kernels
        tuning
        ;;
    brief) brief ;;
    *)
        echo "unknown stage $stage: tests, kernels, tuning, tiles, all or brief" >&2
        exit 2
        ;;
esac
