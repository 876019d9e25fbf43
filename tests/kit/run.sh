#!/bin/sh
# Runs the tests and benchmarks of this kit, which scripts/gpu-kit has made, and writes down what comes of them.
#
#   run [--seconds N] [--output DIR] [--only PATTERN] [--list]
#
#   --seconds N       all of it takes no longer than N seconds; 480 if it is not said
#   --output DIR      where results.json, log.txt and the output of each part go; `results` beside this script if it is not said
#   --only PATTERN    only parts whose names match this regular expression (grep's)
#   --list            prints the names of all parts, and runs none
#
# Needs a shell, timeout, awk, sed, grep, tar and xz (or Python), of any kind: those of BusyBox will do. The exit code is 0 if all parts passed or were skipped, and
# 1 if one failed; the others are run all the same.
#
# results.json is one object. `format` is "bsbr-gpu-kit", `format_version` 1; `kit` says what was built, `machine` what this ran on,
# `cublas` is the folder where a cuBLAS was found, or null, and `cublaslt` the library that the products of a forward come from, which may be the
# kit's own, or null where they are Kokkos Kernels'; `missing_libraries` names what programs of the kit need and this machine lacks;
# `started` is the time in UTC; `seconds_allowed` and `seconds`; `passed`, `failed` and `skipped` count parts. `parts` has one object for each,
# in the order in which they ran:
#
#   name, kind            `kind` is test, sanitizer, benchmark, peer or profile
#   outcome               passed, failed or skipped
#   reason                why it failed or was skipped, which a part that is cut short for the others' sake is, too; else null
#   seconds, exit_code    whole seconds; both 0 for what was not started
#   tests, failed_tests   of programs with tests: how many ran, and the names of those that failed; else null
#   figures               what the program measured, in its own JSON; else null
#   output                the last 60 lines that it printed; the file named like the part has all of them
set -u

here=$(cd "$(dirname "$0")" && pwd)
output=$here/results
seconds=480
only=.
list=

usage() { sed -n '2,/^set -u/{/^set -u/d;s/^# \{0,1\}//;p;}' "$0"; }

refuse() {
  echo "run: error: $1; --help explains it" >&2
  exit 2
}

while [ $# -gt 0 ]; do
  case $1 in
    --seconds | --output | --only)
      [ $# -gt 1 ] || refuse "$1 wants a value"
      case $1 in
        --seconds) seconds=$2 ;;
        --output) output=$2 ;;
        --only) only=$2 ;;
      esac
      shift
      ;;
    --list) list=yes ;;
    --inside) break ;;
    --help | -h) usage && exit 0 ;;
    *) refuse "$1 is not understood" ;;
  esac
  shift
done
case $seconds in
  '' | *[!0-9]*) refuse "--seconds $seconds is not a number" ;;
esac

# A kit that would be too large has its programs packed.
if [ ! -d "$here/bin" ] && [ "${1:-}" != --inside ]; then
  (cd "$here" && { tar -xJf programs.tar.xz || "${PYTHON:-python3}" -m tarfile -e programs.tar.xz; } 2>/dev/null) ||
    refuse "the programs cannot be unpacked in $here, which takes xz or Python"
fi

# kit.txt has what was built: backend, arch, commit, built, needs.
kit() { sed -n "s/^$1=//p" "$here/kit.txt"; }
backend=$(kit backend)

# ---- JSON -----------------------------------------------------------------------------------------------------------------------------

# quoted: standard input as one string of JSON, its lines joined by a space.
quoted() { tr '\n\t\r' '   ' | tr -d '\000-\037' | sed 's/\\/\\\\/g; s/"/\\"/g; s/^ *//; s/ *$//; s/.*/"&"/' | grep . || echo '""'; }

# strings: the lines of standard input as a list of strings.
strings() {
  tr '\t' ' ' | tr -d '\000-\011\013-\037' | sed 's/\\/\\\\/g; s/"/\\"/g; s/.*/"&"/' |
    awk 'BEGIN { printf "[" } { printf "%s%s", (NR > 1 ? ", " : ""), $0 } END { printf "]" }'
}

or_null() { if [ -n "$1" ]; then printf '%s' "$1" | quoted; else echo null; fi; }

# ---- the machine ----------------------------------------------------------------------------------------------------------------------

now() { date +%s; }

# program NAME FOLDER…: where it is: in PATH, or in one of these.
program() {
  name=$1
  shift
  if command -v "$name" 2>/dev/null; then return; fi
  for folder in "$@"; do
    if [ -x "$folder/$name" ]; then
      echo "$folder/$name"
      return
    fi
  done
  return 1
}

python=${PYTHON:-python3}

# library_folders: where libraries of CUDA may lie: PyTorch brings them as Python packages, an installed CUDA has a folder of its own.
library_folders() {
  "$python" -c 'import glob, os, sys
for path in sys.path:
    print("\n".join(glob.glob(os.path.join(path, "nvidia", "*", "lib"))))' 2>/dev/null
  ls -d /usr/local/cuda*/lib64 /usr/local/cuda*/targets/*/lib /opt/cuda/lib64 2>/dev/null
  (ldconfig -p || /sbin/ldconfig -p) 2>/dev/null | sed -n 's|.*libcublas.so.* => \(.*\)/[^/]*$|\1|p'
}

# find_cublas: the folder of the newest one that can be used.
find_cublas() {
  for name in libcublas.so.13 libcublas.so.12; do
    library_folders | while read -r folder; do
      [ ! -e "$folder/$name" ] || echo "$folder"
    done
  done | head -n 1
}

# find_cublaslt: the cublasLt that the programs take their products from, if they know it at all: the machine's, or the kit's.
find_cublaslt() {
  for file in "$here"/lib/libcublasLt.so.*; do
    [ -e "$file" ] || continue
    [ -z "$cublas" ] || [ ! -e "$cublas/${file##*/}" ] || file=$cublas/${file##*/}
    echo "$file"
  done
}

# missing_libraries: of those that the kit needs and does not hold.
missing_libraries() {
  for name in $(kit needs); do
    (ldconfig -p || /sbin/ldconfig -p) 2>/dev/null | grep -qF "$name " && continue
    found=
    for folder in "$cublas" /lib64 /usr/lib64 /usr/lib /lib/x86_64-linux-gnu /usr/lib/x86_64-linux-gnu /usr/lib/wsl/lib; do
      [ ! -e "$folder/$name" ] || found=yes
    done
    [ -n "$found" ] || echo "$name"
  done
}

machine() {
  processor=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo 2>/dev/null | head -n 1)
  gpus=$(nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total,clocks.max.sm --format=csv,noheader 2>/dev/null | strings)
  printf '{"system": %s, "processor": %s, "processors": %d, "gpus": %s}' "$(uname -srm | quoted)" "$(or_null "$processor")" \
    "$processors" "${gpus:-[]}"
}

# ---- parts. Variables are those of the whole script: a loop around these functions calls its own `test` or `tool` -------------------------

passed=0
failed=0
skipped=0

# tell NAME OUTCOME SECONDS REASON
tell() {
  printf '%-8s %4d s  %s%s\n' "$2" "$3" "$1" "${4:+: $4}" | tee -a "$log"
}

# record NAME KIND OUTCOME SECONDS CODE REASON: counts a part, and adds it to the JSON.
record() {
  text=$output/$1.txt figures=$output/$1.json tests=null names=null last='[]'
  case $3 in
    passed) passed=$((passed + 1)) ;;
    failed) failed=$((failed + 1)) ;;
    skipped) skipped=$((skipped + 1)) ;;
  esac
  tell "$1" "$3" "$4" "$6"
  if [ -e "$text" ]; then
    last=$(tail -n 60 "$text" | strings)
    ran=$(sed -n 's/^\[==========\] \([0-9]*\) tests* from .* ran\..*/\1/p' "$text" | tail -n 1)
    if [ -n "$ran" ]; then
      tests=$ran
      names=$(sed -n 's/^\[  FAILED  \] \([^ ,]*\).*/\1/p' "$text" | grep -v '^[0-9]*$' | sort -u | strings)
    fi
  fi
  # A program that was ended while it wrote leaves no last line.
  if [ ! -s "$figures" ] || [ "$(tail -n 1 "$figures")" != '}' ]; then figures=; fi
  {
    [ $((passed + failed + skipped)) -eq 1 ] || echo ','
    printf '{"name": %s, "kind": "%s", "outcome": "%s", "reason": %s, "seconds": %d, "exit_code": %d, "tests": %s, "failed_tests": %s, ' \
      "$(printf '%s' "$1" | quoted)" "$2" "$3" "$(or_null "$6")" "$4" "$5" "$tests" "$names"
    printf '"figures": '
    if [ -n "$figures" ]; then cat "$figures"; else echo null; fi
    printf ', "output": %s}' "$last"
  } >>"$output/parts"
}

# until_percent PERCENT: what follows may use the time up to that part of all seconds, so that what comes later has some left.
until_percent() { group_end=$((began + seconds * $1 / 100)); }

# part NAME KIND LIMIT COMMAND…: runs it for LIMIT seconds at most. A command that ends with 77 was skipped, and its last line says why.
part() {
  name=$1 kind=$2 limit=$3
  shift 3
  printf '%s\n' "$name" | grep -q -e "$only" || return 0
  if [ -n "$list" ]; then
    echo "$name"
    return
  fi
  start=$(now)
  left=$((group_end - start))
  cut=
  [ "$limit" -le "$left" ] || { limit=$left cut=yes; }
  if [ "$limit" -lt 3 ]; then
    record "$name" "$kind" skipped 0 0 "no time left"
    return
  fi
  text=$output/$name.txt
  code=0
  timeout -k 5 "$limit" "$@" >"$text" 2>&1 </dev/null || code=$?
  took=$(($(now) - start))
  # Some tell what they were ended by in a way of their own.
  if [ $code -ne 0 ] && [ $code -ne 77 ] && [ $took -ge "$limit" ]; then code=124; fi
  {
    echo "==== $name: $*"
    cat "$text"
  } >>"$log"
  case $code in
    0) record "$name" "$kind" passed $took 0 '' ;;
    77) record "$name" "$kind" skipped $took 77 "$(tail -n 1 "$text")" ;;
    124)
      if [ -n "$cut" ]; then
        record "$name" "$kind" skipped $took $code "no time left after $limit s"
      else
        record "$name" "$kind" failed $took $code "not done after $limit s"
      fi
      ;;
    *) record "$name" "$kind" failed $took $code "exit code $code" ;;
  esac
}

# test_part PROGRAM LIMIT OPTION…: a program with tests, on one rank.
test_part() {
  name=$1 limit=$2
  shift 2
  part "$name" test "$limit" env OMP_NUM_THREADS="$threads" "$here/bin/$name" "$@"
}

# ranks_part PROGRAM LIMIT [RANKS]: the same on three ranks, which share the GPU. MPICH's wait without a pause: where processors are few, there
# are two, but for tests that look at the third.
ranks_part() {
  part "$1.ranks" test "$2" env OMP_NUM_THREADS=1 "$here/bin/mpiexec.hydra" -launcher fork -n "${3:-$ranks}" "$here/bin/$1"
}

# benchmark_part NAME LIMIT PROGRAM OPTION…: one that prints a table.
benchmark_part() {
  name=$1 limit=$2 program=$3
  shift 3
  part "$name" benchmark "$limit" env OMP_NUM_THREADS="$processors" "$here/bin/$program" "$@"
}

# kernels_part NAME LIMIT FILTER: benchmarks of bench_kernels, which writes JSON.
kernels_part() {
  benchmark_part "$1" "$2" bench_kernels --large --benchmark_filter="$3" --benchmark_out="$output/$1.json" --benchmark_out_format=json
}

# sanitizer_part TOOL PROGRAM FILTER: some tests under compute-sanitizer.
sanitizer_part() {
  part "$1.$2" sanitizer 60 sh "$here/run" --inside sanitize "$1" "$here/bin/$2" "$3"
}

# ---- what a part does beyond one program, started as `run --inside NAME ARGUMENT…` ----------------------------------------------------------

skip() {
  echo "$1"
  exit 77
}

only_on_a_gpu() { [ "$backend" != host ] || skip "this kit is for a host's cores"; }

# sanitize TOOL PROGRAM FILTER
inside_sanitize() {
  only_on_a_gpu
  # shellcheck disable=SC2046  # one folder a word
  sanitizer=$(program compute-sanitizer $(ls -d /usr/local/cuda*/bin /usr/local/cuda*/compute-sanitizer /opt/cuda/bin 2>/dev/null)) ||
    skip "compute-sanitizer is not installed"
  exec "$sanitizer" --tool "$1" --error-exitcode 1 "$2" --gtest_filter="$3"
}

# peer FILE SIZES…: PyTorch's times go to FILE.
inside_peer() {
  file=$1
  shift
  command -v "$python" >/dev/null || skip "there is no $python"
  "$python" -B "$here/perf/peer_on_gpu.py" "$@" >"$file"
}

# profile FOLDER OPTION…: the three kernels of a forward that take longest, by ncu. Their names are long, and the same kernel is launched often:
# each launch has a number, and the longest of each name is looked at once more.
inside_profile() {
  only_on_a_gpu
  folder=$1
  shift
  # shellcheck disable=SC2046  # one folder a word
  ncu=$(program ncu $(ls -d /usr/local/cuda*/bin /opt/nvidia/nsight-compute/* 2>/dev/null)) || skip "ncu is not installed"
  "$here/bin/bsbr_init" --output "$folder/profiled.h5" --architecture bsbr "$@" || exit
  set -- "$here/bin/bsbr_forward" --model "$folder/profiled.h5" --random-tokens 16384
  "$ncu" --csv --print-units base --metrics gpu__time_duration.sum "$@" >"$folder/launches.csv" || {
    ! grep -q ERR_NVGPUCTRPERM "$folder/launches.csv" || skip "this user may not read the counters of the GPU (ERR_NVGPUCTRPERM)"
    tail -n 5 "$folder/launches.csv"
    exit 1
  }
  grep '^"[0-9]' "$folder/launches.csv" | awk -F '","' '
    { gsub(/[",]/, "", $NF); id = substr($1, 2); time = $NF + 0; if (time > most[$5]) { most[$5] = time; launch[$5] = id } }
    END { for (name in most) print most[name], launch[name] }' | sort -rn | head -n 3 | while read -r time launch; do
    echo "---- launch $launch, $time ns"
    "$ncu" --launch-skip "$launch" --launch-count 1 --section SpeedOfLight --section LaunchStats --section Occupancy \
      --section MemoryWorkloadAnalysis --section WarpStateStats "$@" </dev/null || exit 1
  done
}

# ---- all of it ------------------------------------------------------------------------------------------------------------------------

run_tests() {
  until_percent 45
  test_part test_golden_model 90
  ranks_part test_golden_model 90
  test_part test_attention_on_views 90
  for test in math rows product tile_product transpose softmax_tiles chunk_state state_scan panel_chain embedding labels \
    softmax_gradient scan_gradient outer_product row_sums token_loss token_loss_gradient dropout poison; do
    test_part "test_$test" 60
  done
  for test in attention_options attention_gradients layer_gradients model_gradients optimizer trainer training_dropout; do
    test_part "test_$test" 90
  done
  for test in attention_gradients model_gradients optimizer trainer training_dropout; do
    ranks_part "test_$test" 90 3
  done
  for test in weights model model_file token_file layouts; do
    test_part "test_$test" 60
    ranks_part "test_$test" 60
  done
  test_part test_result_file 60
  ranks_part test_result_file 60 3
  ranks_part test_parallel 60
  ranks_part test_attention_on_views 90
  # The rest holds a GPU to what is promised of a host only, bit by bit, beside what must hold on both.
  for test in equivalences overflow properties sizes; do
    test_part "test_$test" 60
  done
}

# A warning of these tools is about one thread of a small array as much as of a large one: the smallest cases say as much, in less time.
run_sanitizers() {
  until_percent 58
  for tool in memcheck racecheck; do
    sanitizer_part $tool test_softmax_tiles '*/float.*-*every*:*bits*'
    for test in test_tile_product test_chunk_state test_state_scan test_panel_chain; do
      sanitizer_part $tool $test '*/float.*'
    done
    sanitizer_part $tool test_golden_model '*bsbr_ragged*'
  done
}

run_benchmarks() {
  until_percent 86
  if [ "$backend" = host ]; then # sizes of a host, against a BLAS that is there for the sake of its functions
    export BSBR_SGEMM_SIZE=256
    kernels_part kernels.products 30 '^product/512x512/'
    kernels_part kernels.attention 30 '^(within_chunk/d64/B128|states/d64)'
    kernels_part kernels.forward 30 '^forward/D256/'
    benchmark_part report 30 report --tokens 2048 --repeat 2
    benchmark_part architectures 30 bench_architectures --tokens 512 --num-layers 1 --repeat 1
    benchmark_part gradients 30 bench_gradients --architecture bsbr --tokens 512 --num-layers 1 --repeat 1
    return
  fi
  kernels_part kernels.forward_512 45 '^forward/D512/L(16384|65536)/'
  kernels_part kernels.forward_1024 90 '^forward/D1024/'
  kernels_part kernels.products 45 '^(product|blas)/'
  kernels_part kernels.attention 45 '^(within_chunk|states|retrieval|mixing)/'
  benchmark_part report.512 20 report --tokens 16384
  benchmark_part report.1024 60 report --tokens 65536 --hidden-dim 1024 --num-heads 16 --ff-dim 4096 --repeat 3
  benchmark_part architectures 45 bench_architectures --tokens 16384 --repeat 3
  benchmark_part gradients 60 bench_gradients --tokens 16384 --repeat 3
}

run_peer_and_profile() {
  sizes="--hidden-dim 512,1024 --tokens 16384,65536"
  if [ "$backend" = host ]; then sizes="--hidden-dim 256 --tokens 2048 --repeat 2 --device cpu"; fi
  until_percent 95
  # shellcheck disable=SC2086  # options
  part pytorch peer 60 sh "$here/run" --inside peer "$output/pytorch.json" $sizes
  until_percent 100
  part ncu profile 60 sh "$here/run" --inside profile "$scratch" --hidden-dim 512 --num-heads 8 --num-layers 1 --ff-dim 2048 --chunk-size 128
}

run_all() {
  run_tests
  run_sanitizers
  run_benchmarks
  run_peer_and_profile
}

prepare() {
  mkdir -p "$output" && output=$(cd "$output" && pwd) || exit 1
  rm -rf "$output"/*.txt "$output"/*.json "$output"/parts
  log=$output/log.txt
  : >"$output/parts" || exit 1
  for name in timeout awk sed grep; do
    command -v "$name" >/dev/null || refuse "$name is not in PATH"
  done
  processors=$(grep -c '^processor' /proc/cpuinfo 2>/dev/null || echo 1)
  threads=$((processors < 2 ? 1 : 2)) ranks=$((processors < 4 ? 2 : 3))
  scratch=$output/scratch
  mkdir -p "$scratch"
  cublas=
  [ "$backend" = host ] || cublas=$(find_cublas)
  # The programs find the libraries of the kit by themselves.
  [ -z "$cublas" ] || export LD_LIBRARY_PATH="$cublas${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  export BSBR_GOLDEN_DIR="$here/data/golden" TMPDIR="$scratch" GTEST_COLOR=no OMP_PROC_BIND=false OMP_WAIT_POLICY=passive
}

write_results() {
  {
    printf '{\n"format": "bsbr-gpu-kit", "format_version": 1,\n'
    printf '"kit": {"backend": %s, "arch": %s, "commit": %s, "built": %s},\n' "$(kit backend | quoted)" "$(kit arch | quoted)" \
      "$(kit commit | quoted)" "$(kit built | quoted)"
    printf '"machine": %s,\n"cublas": %s, "cublaslt": %s, "missing_libraries": %s,\n' "$(machine)" "$(or_null "$cublas")" \
      "$(or_null "$(find_cublaslt)")" "$(missing_libraries | strings)"
    printf '"started": "%s", "seconds_allowed": %d, "seconds": %d,\n' "$started" "$seconds" $(($(now) - began))
    printf '"passed": %d, "failed": %d, "skipped": %d,\n"parts": [\n' $passed $failed $skipped
    cat "$output/parts"
    printf ']\n}\n'
  } >"$output/results.json"
}

if [ "${1:-}" = --inside ]; then
  inside=inside_$2
  shift 2
  "$inside" "$@"
  exit
fi
began=$(now)
if [ -n "$list" ]; then
  output=/nowhere scratch=/nowhere processors=1 threads=1 ranks=1
  run_all
  exit
fi
prepare
started=$(date -u +%Y-%m-%dT%H:%M:%SZ)
for name in $(missing_libraries); do
  tell start warning 0 "$name, which programs need, is not found: they will not start"
done
trap 'write_results; exit 130' INT TERM
run_all
rm -rf "$scratch"
write_results
rm -f "$output/parts"
echo "$passed passed, $failed failed, $skipped skipped in $(($(now) - began)) s; $output/results.json"
[ $failed -eq 0 ]
